//! What objects depend on beyond the plan: the cluster, and who is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::profile::Profile;

/// Which set of a service's pods is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The pods that serve: the Deployment that is called as the service.
    Stable {
        /// So many replicas. None: what the plan says. With a HorizontalPodAutoscaler it is the
        /// least that this may choose, and 0 stops all.
        replicas: Option<u32>,
    },
    /// The pods of a new revision beside them, in the Deployment `NAME-candidate`.
    Candidate { replicas: u32 },
}

/// What is known of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Trainyard's image, which fetches models.
    pub image: String,
    pub image_pull_policy: PullPolicy,
    /// Namespace of plans that name none; without one, the client's.
    pub namespace: Option<String>,
    pub profile: Profile,
    /// The 34 of Kubernetes 1.34: the oldest version that the objects are for.
    pub kubernetes_minor: u32,
    /// Pods that requests come from. None: the service's own namespace calls it directly.
    pub gateway: Option<Peer>,
    /// Pods that read metrics.
    pub monitoring: Option<Peer>,
    /// Groups and versions that the cluster has beyond Kubernetes' own, such as
    /// `monitoring.coreos.com/v1`.
    pub apis: BTreeSet<String>,
    /// The Gateway (of the Gateway API) that routes to services, where its API is there.
    pub route: Option<ParentGateway>,
    /// Ports of object stores, beside 443: MinIO's 9000, for one.
    pub store_ports: Vec<u16>,
    /// How long demand must stay low before an autoscaler takes a replica away; at most an hour,
    /// which is Kubernetes' own limit. None: 5 minutes, with a GPU 10.
    pub scale_down_after: Option<Duration>,
    /// What the objects belong to, and vanish with.
    pub owner: Option<OwnerReference>,
}

impl Settings {
    /// A cluster of which nothing is known.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            image_pull_policy: PullPolicy::Always,
            namespace: None,
            profile: Profile::Generic,
            kubernetes_minor: OLDEST_MINOR,
            gateway: None,
            // The namespace of kube-prometheus and of the charts made from it.
            monitoring: Some(Peer { namespace: "monitoring".to_owned(), labels: BTreeMap::new() }),
            apis: BTreeSet::new(),
            route: None,
            store_ports: Vec::new(),
            scale_down_after: None,
            owner: None,
        }
    }
}

/// The oldest Kubernetes that Trainyard works on.
pub(super) const OLDEST_MINOR: u32 = 29;

/// When a node asks the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At each start: who may not pull an image cannot run it because another one has. Layers that
    /// are there are not pulled again.
    Always,
    /// Only where it is not there: a restart needs no registry.
    IfNotPresent,
}

impl PullPolicy {
    /// Kubernetes' name of it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
        }
    }
}

/// Pods of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub namespace: String,
    /// Labels that they have; without any, all pods of the namespace.
    pub labels: BTreeMap<String, String>,
}

/// A `Gateway` of the Gateway API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentGateway {
    pub namespace: String,
    pub name: String,
}
