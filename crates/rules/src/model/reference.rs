//! References from one object to another.

use crate::yaml::Node;

use super::object::Object;

/// What scales a workload: a HorizontalPodAutoscaler or a KEDA ScaledObject.
#[derive(Debug, Clone, Copy)]
pub struct Autoscaler<'b> {
    pub object: Object<'b>,
    /// Fewest replicas; Kubernetes' default of 1, KEDA's of 0, where unset.
    pub min: i64,
    /// Most replicas; `None` where it cannot be read.
    pub max: Option<i64>,
    /// `scaleTargetRef`.
    pub target: Node<'b>,
}

impl<'b> Autoscaler<'b> {
    pub(super) fn read(object: Object<'b>) -> Option<Self> {
        let spec = object.spec();
        let (least, most, default) = match (object.group(), object.kind) {
            ("autoscaling", "HorizontalPodAutoscaler") => ("minReplicas", "maxReplicas", 1),
            ("keda.sh", "ScaledObject") => ("minReplicaCount", "maxReplicaCount", 0),
            _ => return None,
        };
        let min = spec.get(least);
        let min = if min.is_set() { min.int()? } else { default };
        let most = spec.get(most);
        // KEDA's default.
        let max = if !most.is_set() && default == 0 { Some(100) } else { most.int() };
        Some(Self { object, min, max, target: spec.get("scaleTargetRef") })
    }

    /// The kind that it scales; KEDA's default is a Deployment.
    #[must_use]
    pub fn target_kind(&self) -> &'b str {
        self.target.get("kind").text().unwrap_or("Deployment")
    }

    #[must_use]
    pub fn target_name(&self) -> &'b str {
        self.target.get("name").str()
    }
}
