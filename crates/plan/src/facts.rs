//! What a compilation must know beyond the resource.

use std::collections::BTreeMap;
use std::path::PathBuf;

use trainyard_api::model_service::Toleration;
use trainyard_api::scalar::{Bytes, Millicores};

/// What the shell observed before it compiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub target: Target,
    /// The model on this machine's disk; none where the back end fetches it later.
    pub model: Option<FetchedModel>,
}

/// Which back end will run the plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Processes on this machine.
    Local {
        /// CPU that processes may use: the cgroup's limit, or the cores.
        cpu: Millicores,
        /// Memory that processes may use.
        memory: Bytes,
    },
    /// A Kubernetes cluster.
    Kubernetes {
        /// The image of Trainyard that replicas run, with its tag or digest.
        image: String,
        /// Pools of GPU nodes by name; the one called [`DEFAULT_POOL`] serves who names none.
        gpu_pools: BTreeMap<String, GpuPool>,
    },
}

/// The pool of services that name none.
pub const DEFAULT_POOL: &str = "default";

/// Nodes with equal GPUs, shared in an equal way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuPool {
    /// The extended resource that its device plugin announces.
    pub resource: String,
    /// Into how many equal parts each GPU is cut; 1 where GPUs are given whole.
    pub units_per_gpu: u32,
    /// Memory of one whole GPU, where it is known.
    pub memory: Option<Bytes>,
    /// Labels that its nodes have, beyond what the cluster's profile knows.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that its nodes have, beyond what the cluster's profile knows.
    pub tolerations: Vec<Toleration>,
}

/// A model that `storage` has fetched, or that was on disk already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedModel {
    /// The file or folder, absolute.
    pub path: PathBuf,
    /// What changes when the content does (a SHA-256, or size and time of change): a new value
    /// makes a new revision though the uri stayed the same.
    pub fingerprint: Option<String>,
}
