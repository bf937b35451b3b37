//! The protocol-free model server: what every protocol calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::EngineInfo;
use crate::error::InferError;
use crate::request::{InferRequest, InferResponse, VersionChoice};
use crate::signature::Signature;

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

/// Loaded models, their queues and engines. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    _private: (),
}

impl Server {
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
