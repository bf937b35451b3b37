//! What an operator is told at its start.

use std::net::SocketAddr;
use std::time::Duration;

use trainyard_packing::Policy;
use trainyard_plan::kubernetes::PluginConfig;

use crate::pools::Pools;

use crate::lint::LintWebhook;

/// Where the operator works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    Cluster,
    /// In these namespaces only; it needs no rights elsewhere.
    Namespaces(Vec<String>),
}

impl From<Vec<String>> for Scope {
    /// As command lines have it: no namespace means all.
    fn from(namespaces: Vec<String>) -> Self {
        if namespaces.is_empty() { Self::Cluster } else { Self::Namespaces(namespaces) }
    }
}

impl Scope {
    /// The namespaces to watch one by one; one `None` stands for all at once.
    pub(crate) fn watched(&self) -> Vec<Option<&str>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        }
    }
}

/// Settings of one operator process.
#[derive(Debug, Clone)]
pub struct Settings {
    pub scope: Scope,
    pub cluster: Cluster,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub address: SocketAddr,
    /// Services that are reconciled at once.
    pub workers: usize,
    /// Requests are averaged over this to decide how many replicas there are; at least 3 s.
    pub scaling_window: Duration,
    pub election: Election,
    /// The lint rules as a webhook, if wanted.
    pub lint: Option<LintWebhook>,
}

/// What is known of the cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// How objects are written for it.
    pub objects: trainyard_plan::kubernetes::Settings,
    /// Pools of GPU nodes, as they are known.
    pub gpu_pools: Pools,
    /// The ConfigMap that NVIDIA's device plugin reads.
    pub plugin_config: PluginConfig,
    /// Whether nodes of pools are labelled and tainted.
    pub manage_gpu_nodes: bool,
    /// By which policy training jobs with GPUs prefer nodes; none leaves all to the scheduler.
    pub packing: Option<Policy>,
}

/// How one of several operators becomes the one that acts.
#[derive(Debug, Clone)]
pub struct Election {
    /// Namespace and name of the Lease.
    pub namespace: String,
    pub lease: String,
    /// What this process is called in the Lease; unique among those that want it.
    pub identity: String,
    /// So long after the holder's last sign of life may another take the Lease.
    pub lease_duration: Duration,
    /// A holder that could not renew for so long stops acting; shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// Time between two tries.
    pub retry_period: Duration,
}

impl Election {
    /// client-go's times: 15 s, 10 s and 2 s.
    pub fn new(namespace: String, identity: String) -> Self {
        Self {
            namespace,
            lease: crate::names::OPERATOR.to_owned(),
            identity,
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// How fast the operator may talk to the API server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestRate {
    /// Sustained requests per second, watches not counted.
    pub per_second: f64,
    /// Requests at once after a quiet time.
    pub burst: u32,
}

impl Default for RequestRate {
    /// A thousand new services (about 16 requests each) in a minute and a half. The API server's
    /// own fairness, which limits us too, is what protects it.
    fn default() -> Self {
        Self { per_second: 200.0, burst: 400 }
    }
}
