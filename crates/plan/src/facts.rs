//! What a compilation must know beyond the resource.

use std::collections::BTreeMap;
use std::path::PathBuf;

use trainyard_api::scalar::{Bytes, Millicores};

use crate::pool::{PoolError, PoolFacts};

/// Pools by name, or why one cannot be used.
pub type GpuPools = BTreeMap<String, Result<PoolFacts, PoolError>>;

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
        /// GPUs that processes may use.
        gpus: u32,
    },
    /// A Kubernetes cluster.
    Kubernetes {
        /// The image of Trainyard that replicas run, with its tag or digest.
        image: String,
        /// Pools of GPU nodes by name, or why one cannot be used; the one called
        /// [`DEFAULT_POOL`](crate::DEFAULT_POOL) serves who names none.
        gpu_pools: GpuPools,
    },
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
