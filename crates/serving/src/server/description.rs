//! What protocols tell clients about models.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// `None` for a model of which no version was ever asked for.
    pub version: Option<u64>,
    pub state: VersionState,
    /// Why the version is not ready, or why one that is could not be replaced.
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
