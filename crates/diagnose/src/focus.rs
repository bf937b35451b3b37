//! What of a cluster a person asks about.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::answer::{Finding, ObjectRef};
use crate::view::View;

/// Which findings are told: those of a namespace, or of one object and what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Focus {
    pub namespace: Option<String>,
    pub target: Option<Target>,
}

/// An object as a command line names it: `NAME`, `KIND/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As objects write it; none if only a name was said.
    pub kind: Option<String>,
    pub name: String,
}

/// A word that is no name of a kind.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no KIND/NAME; kinds are {known}", known = known())]
pub struct TargetError(String);

/// Kinds, and what people call them.
const KINDS: [(&str, &[&str]); 14] = [
    ("Pod", &["pod", "pods", "po"]),
    ("Node", &["node", "nodes", "no"]),
    ("Deployment", &["deployment", "deployments", "deploy"]),
    ("ReplicaSet", &["replicaset", "replicasets", "rs"]),
    ("StatefulSet", &["statefulset", "statefulsets", "sts"]),
    ("DaemonSet", &["daemonset", "daemonsets", "ds"]),
    ("Job", &["job", "jobs"]),
    ("CronJob", &["cronjob", "cronjobs", "cj"]),
    ("ModelService", &["modelservice", "modelservices", "ms", "modelservices.trainyard.dev"]),
    ("HorizontalPodAutoscaler", &["horizontalpodautoscaler", "horizontalpodautoscalers", "hpa"]),
    ("PodGroup", &["podgroup", "podgroups", "pg"]),
    ("JobSet", &["jobset", "jobsets"]),
    ("Workload", &["workload", "workloads", "wl"]),
    ("TrainingJob", &["trainingjob", "trainingjobs", "tj"]),
];

fn known() -> String {
    KINDS.map(|(_, names)| names[0]).join(", ")
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((kind, name)) = text.split_once('/') else {
            return if text.is_empty() {
                Err(TargetError(text.to_owned()))
            } else {
                Ok(Self { kind: None, name: text.to_owned() })
            };
        };
        let lower = kind.to_ascii_lowercase();
        let known = KINDS.iter().find(|(_, names)| names.contains(&lower.as_str()));
        match known {
            Some((kind, _)) if !name.is_empty() => {
                Ok(Self { kind: Some((*kind).to_owned()), name: name.to_owned() })
            }
            _ => Err(TargetError(text.to_owned())),
        }
    }
}

impl Focus {
    /// Whether the target is in the snapshot; true without one.
    #[must_use]
    pub fn is_there(&self, snapshot: &crate::Snapshot) -> bool {
        self.target.is_none() || !self.roots(&View::new(snapshot)).is_empty()
    }

    pub(crate) fn keep(&self, view: &View<'_>, findings: Vec<Finding>) -> Vec<Finding> {
        if self.target.is_some() {
            let related = self.related(view);
            return findings
                .into_iter()
                .filter(|it| {
                    std::iter::once(&it.object).chain(&it.also).any(|o| related.contains(o))
                })
                .collect();
        }
        let Some(namespace) = &self.namespace else { return findings };
        let mut nodes: BTreeSet<&str> = BTreeSet::new();
        let mut waits = false;
        for pod in view.pods().iter().filter(|pod| pod.object.namespace() == namespace) {
            nodes.extend(Some(pod.node_name()).filter(|name| !name.is_empty()));
            waits |= pod.is_waiting_for_node();
        }
        findings
            .into_iter()
            .filter(|it| match it.object.kind.as_str() {
                // Nodes that its pods are on, or could come to.
                "Node" => waits || nodes.contains(it.object.name.as_str()),
                _ => std::iter::once(&it.object).chain(&it.also).any(|o| o.namespace == *namespace),
            })
            .collect()
    }

    fn roots(&self, view: &View<'_>) -> BTreeSet<ObjectRef> {
        let Some(target) = &self.target else { return BTreeSet::new() };
        let is_asked = |object: &ObjectRef| {
            object.name == target.name
                && target.kind.as_ref().is_none_or(|kind| *kind == object.kind)
                && (object.kind == "Node"
                    || self.namespace.as_ref().is_none_or(|asked| *asked == object.namespace))
        };
        let all = view.objects().filter(|it| it.kind() != "Event").map(|it| it.reference());
        all.filter(is_asked).collect()
    }

    /// The target, what it owns and owns it, its pods' nodes, and what acts on it.
    fn related(&self, view: &View<'_>) -> BTreeSet<ObjectRef> {
        let mut related = self.roots(view);
        let roots = related.clone();
        loop {
            let before = related.len();
            for object in view.objects() {
                let acts_on = ObjectRef::new(
                    object.text("/spec/scaleTargetRef/kind"),
                    object.namespace(),
                    object.text("/spec/scaleTargetRef/name"),
                );
                if object.owners().any(|owner| related.contains(&owner))
                    || related.contains(&acts_on)
                {
                    related.insert(object.reference());
                }
            }
            if related.len() == before {
                break;
            }
        }
        for root in &roots {
            if let Some(mut object) = view.find(&root.kind, &root.namespace, &root.name) {
                while let Some(owner) = view.owner(object) {
                    if !related.insert(owner.reference()) {
                        break;
                    }
                    object = owner;
                }
            }
        }
        let asks_for_node = roots.iter().any(|root| root.kind == "Node");
        for pod in view.pods() {
            let node = ObjectRef::new("Node", "", pod.node_name());
            if related.contains(&pod.object.reference()) && !node.name.is_empty() {
                related.insert(node);
            } else if asks_for_node && roots.contains(&node) {
                related.insert(pod.object.reference());
            }
        }
        related
    }
}

#[test]
fn targets_as_people_write_them() {
    let of = |text: &str| text.parse::<Target>().ok().map(|it| (it.kind, it.name));
    assert_eq!(of("deploy/a"), Some((Some("Deployment".to_owned()), "a".to_owned())));
    assert_eq!(of("gpu-1"), Some((None, "gpu-1".to_owned())));
    assert_eq!(of("Pod/a"), Some((Some("Pod".to_owned()), "a".to_owned())));
    assert_eq!(of("x/a"), None);
    assert_eq!(of("pod/"), None);
    assert_eq!(of(""), None);
}
