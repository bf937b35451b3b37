//! One inference request and its answer, in no protocol's form.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::tensor::Tensor;

/// Which version of a model a request wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VersionChoice {
    /// The newest that is ready, within the model's version policy.
    #[default]
    Latest,
    Number(u64),
    /// A label that the configuration maps to a version.
    Label(String),
}

/// A request, already decoded but not yet checked against the model.
#[derive(Debug, Clone, Default)]
pub struct InferRequest {
    pub model: String,
    pub version: VersionChoice,
    /// Inputs by name, in the client's order.
    pub inputs: Vec<(String, Tensor)>,
    /// Names of the outputs wanted, in that order; empty means all.
    pub outputs: Vec<String>,
    /// 1 is the most urgent; 0 means the model's default.
    pub priority: u64,
    /// How long the request may wait in the queue, if the client says.
    pub queue_timeout: Option<Duration>,
    /// When the answer stops being of use (a gRPC deadline or a header).
    pub deadline: Option<Instant>,
}

/// Why a batch was sent to the engine when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchClose {
    /// The model is not batched, or ran at once.
    Unbatched,
    /// `max_batch_size` or a preferred size was reached.
    Full,
    /// The oldest request had waited for the configured delay.
    Delay,
    /// The next request's shape differs.
    ShapeMismatch,
    /// An instance was free and nothing else was waiting.
    Idle,
    /// A request would have missed its deadline.
    Deadline,
}

impl BatchClose {
    /// The form used in headers and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unbatched => "unbatched",
            Self::Full => "full",
            Self::Delay => "delay",
            Self::ShapeMismatch => "shape_mismatch",
            Self::Idle => "idle",
            Self::Deadline => "deadline",
        }
    }
}

/// How one request was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    pub queue: Duration,
    pub compute: Duration,
    /// Batch elements that ran together, this request's included.
    pub batch_size: usize,
    pub close: BatchClose,
}

/// The answer to an [`InferRequest`].
#[derive(Debug, Clone)]
pub struct InferResponse {
    pub model: Arc<str>,
    pub version: u64,
    /// Outputs in the order asked for, or the model's.
    pub outputs: Vec<(Arc<str>, Tensor)>,
    pub execution: Execution,
}
