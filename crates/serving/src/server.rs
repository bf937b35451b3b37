//! The protocol-free model server: what every protocol calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{EngineInfo, EnginePreference};
use crate::error::InferError;
use crate::request::{InferRequest, InferResponse, VersionChoice};
use crate::scheduler::Metrics;
use crate::signature::Signature;

/// Why a server cannot start: each problem in a sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct StartError {
    pub problems: Vec<String>,
}

/// State of one version, named as Triton names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    Loading,
    Ready,
    Unloading,
    /// Not loaded; the reason says why (`unloaded`, or the load error).
    Unavailable,
}

/// One line of the repository index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    pub name: String,
    pub version: Option<u64>,
    pub state: VersionState,
    pub reason: String,
}

/// What protocols tell clients about one ready version.
#[derive(Debug, Clone)]
pub struct ModelMetadata {
    pub name: Arc<str>,
    pub version: u64,
    /// Every version that is ready, ascending.
    pub versions: Vec<u64>,
    /// `onnxruntime_onnx` for both engines, which is what Triton's clients expect.
    pub platform: &'static str,
    pub signature: Arc<Signature>,
    /// 0 when the model is not batched, as in Triton's configuration.
    pub max_batch_size: usize,
    /// Which engine serves it and why batching is on or off, in words.
    pub notes: Vec<(String, String)>,
}

/// Count and total time, as Triton's statistics have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationStat {
    pub count: u64,
    pub nanoseconds: u64,
}

/// Statistics of one version since it was loaded.
#[derive(Debug, Clone, Default)]
pub struct ModelStatistics {
    pub name: String,
    pub version: u64,
    /// Milliseconds since the epoch of the last inference, 0 if none.
    pub last_inference_ms: u64,
    /// Batch elements, as Triton counts.
    pub inference_count: u64,
    pub execution_count: u64,
    pub success: DurationStat,
    pub fail: DurationStat,
    pub queue: DurationStat,
    pub compute_input: DurationStat,
    pub compute_infer: DurationStat,
    pub compute_output: DurationStat,
    /// By batch size: (input, infer, output).
    pub batches: BTreeMap<u64, (DurationStat, DurationStat, DurationStat)>,
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
    /// These at start, then whatever the repository API asks for.
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

/// Loaded models, their queues and engines. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    _private: (),
}

impl Server {
    /// Starts the engine and finds the models; they load in the background.
    ///
    /// What is wrong with a target (nothing there, an unsupported backend, a mistake in a
    /// configuration) fails at once, all problems in one error.
    pub fn start(_options: ServerOptions) -> Result<Self, StartError> {
        todo!()
    }

    /// Waits until every model that should serve does, or tells what failed to load.
    pub async fn loaded(&self) -> Result<(), StartError> {
        todo!()
    }

    /// Refuses new requests, finishes those that are queued, then unloads.
    pub async fn shutdown(&self) {
        todo!()
    }

    /// The registry that `/metrics` shows.
    pub fn metrics(&self) -> &Metrics {
        todo!()
    }

    /// Checks and runs one request. Dropping the future cancels it while it waits.
    pub async fn infer(&self, _request: InferRequest) -> Result<InferResponse, InferError> {
        todo!()
    }

    /// The engine that runs models.
    pub fn engine(&self) -> &EngineInfo {
        todo!()
    }

    /// Metadata of one version.
    pub fn metadata(
        &self,
        _model: &str,
        _version: &VersionChoice,
    ) -> Result<ModelMetadata, InferError> {
        todo!()
    }

    /// Triton's model configuration, as JSON with proto field names.
    pub fn config(&self, _model: &str) -> Result<serde_json::Value, InferError> {
        todo!()
    }

    /// Every model and version known, loaded or not, by name and version.
    pub fn index(&self) -> Vec<IndexEntry> {
        todo!()
    }

    /// Statistics of the versions that match; all models for `None`.
    pub fn statistics(
        &self,
        _model: Option<&str>,
        _version: Option<u64>,
    ) -> Result<Vec<ModelStatistics>, InferError> {
        todo!()
    }

    /// Loads or reloads a model; the old version serves until the new one is ready.
    pub async fn load(&self, _model: &str, _options: LoadOptions) -> Result<(), InferError> {
        todo!()
    }

    /// Unloads every version of a model once its requests are answered.
    pub async fn unload(&self, _model: &str) -> Result<(), InferError> {
        todo!()
    }

    /// Whether the process can answer at all.
    pub fn is_live(&self) -> bool {
        todo!()
    }

    /// Whether every model that should serve does, and the server is not draining.
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// Labels of a model's versions.
    pub fn labels(&self, _model: &str) -> Result<BTreeMap<String, u64>, InferError> {
        todo!()
    }
}
