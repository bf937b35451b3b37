//! The trait behind which each inference engine stands, the engines, and the choice between them.

mod choose;
pub mod library;
mod onnxruntime;
mod tract;

pub use choose::{Choice, EnginePreference, choose, choose_with_threads};
pub use onnxruntime::OnnxRuntime;
pub use tract::Tract;

use std::path::Path;
use std::sync::Arc;

use crate::onnx::{Facts, OperatorUse};
use crate::signature::Signature;
use crate::tensor::Tensor;

/// Which engine runs, for the start message, metadata and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `onnxruntime` or `tract`.
    pub name: &'static str,
    pub version: String,
    /// Execution device, such as `cpu` or `cuda`.
    pub device: String,
    /// Threads that all sessions of the engine share for one operator.
    pub threads: usize,
    /// Where the library was found, if it was loaded at run time.
    pub library: Option<std::path::PathBuf>,
}

/// Settings of one session.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Threads within one operator; `None` shares the engine's pool.
    pub intra_op_threads: Option<usize>,
    /// GPU memory the engine's arena may take, in bytes.
    pub gpu_memory_limit: Option<u64>,
}

/// Loads models. One per process and kind.
pub trait Engine: Send + Sync {
    fn info(&self) -> &EngineInfo;

    /// Loads one model file. Slow (reads and optimises): never on a runtime thread.
    fn load(&self, model: &Path, options: &SessionOptions)
    -> Result<Arc<dyn Session>, EngineError>;

    /// Operators of a model that this engine does not have. Those that it has may still lack a
    /// version for some element type, which only loading tells.
    fn missing_operators(&self, _facts: &Facts) -> Vec<OperatorUse> {
        Vec::new()
    }
}

/// A loaded model, safe to run from several threads at once.
pub trait Session: Send + Sync {
    fn signature(&self) -> &Signature;

    /// Runs the model once.
    ///
    /// `inputs` has one entry per declared input, in order, `None` for an optional one left out;
    /// data types are already checked. Returns the outputs whose indices are asked for, in that
    /// order. Blocks for the length of the inference.
    fn run(
        &self,
        inputs: &[Option<&Tensor>],
        outputs: &[usize],
    ) -> Result<Vec<Tensor>, EngineError>;

    /// Runs once and gives back the working memory that this and earlier runs took, so that a model
    /// that was tried out and then gets no requests holds its weights only. Engines that keep none
    /// need not run.
    fn settle(&self, _inputs: &[Option<&Tensor>]) {}
}

/// What can go wrong in an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file is not a model this engine can run.
    #[error("cannot load the model {path}: {reason}")]
    Load { path: String, reason: String },
    /// No engine can be started.
    #[error(
        "ONNX Runtime was not found; install it with `trainyard engine install` or name its \
         library in ORT_DYLIB_PATH{}",
        join(notes)
    )]
    Unavailable { notes: Vec<String> },
    /// The model refused these inputs (wrong shape inside the graph, for example).
    #[error("the model refused its input: {0}")]
    Input(String),
    /// The engine failed on valid input.
    #[error("inference failed: {0}")]
    Run(String),
}

impl From<crate::onnx::OnnxError> for EngineError {
    fn from(error: crate::onnx::OnnxError) -> Self {
        use crate::onnx::OnnxError as E;
        let reason = match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        let (E::Read { path, .. }
        | E::Folder { path }
        | E::Empty { path }
        | E::TooLarge { path, .. }
        | E::NotOnnx { path, .. }
        | E::ExternalData { path, .. }) = error;
        // The error of an engine names the file itself.
        let reason = reason.replacen(&path, "it", 1);
        Self::Load { path, reason }
    }
}

fn join(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) }
}
