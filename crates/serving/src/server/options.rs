//! What a server is asked to do, when it starts and later.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::EnginePreference;

/// Why a server cannot start: each problem in a sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct StartError {
    pub problems: Vec<String>,
}

/// Content of a load request of the model repository API.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Triton's model configuration as JSON text, in place of the repository's.
    pub config: Option<String>,
    /// Files by path relative to the model's folder, in place of the repository's.
    pub files: BTreeMap<String, bytes::Bytes>,
}

/// Who decides which models are loaded, named as Triton names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelControl {
    /// All, at start.
    None,
    /// All, and changes of the repository are looked for at this interval.
    Poll(Duration),
    /// These at start (`*` for all), then whatever the repository API asks for.
    Explicit { load: Vec<String> },
}

/// What to serve and how.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Model files, model folders, repositories, base paths of versions, MLflow folders.
    pub targets: Vec<PathBuf>,
    /// Name of the model, for a single target that is one model.
    pub name: Option<String>,
    pub control: ModelControl,
    pub engine: EnginePreference,
    /// Compute threads; `None` follows the cgroup's CPU limit.
    pub threads: Option<usize>,
    /// In place of what models' configurations say.
    pub max_batch: Option<usize>,
    pub max_delay: Option<Duration>,
    pub max_queue: Option<usize>,
    /// The one version to serve, in place of the version policy.
    pub version: Option<u64>,
    /// In bytes, for the engine's arena.
    pub gpu_memory_limit: Option<u64>,
}
