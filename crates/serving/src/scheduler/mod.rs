//! Queues and batches the requests of one model version, and runs them on an engine session.
//!
//! In: a [`Job`] that was checked against the model's signature. Out: its outputs, and how it was
//! executed. Knows nothing of protocols, versions or files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Session;
use crate::error::InferError;
use crate::request::Execution;
use crate::server::ModelStatistics;
use crate::tensor::Tensor;

/// How one version is run.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerOptions {
    /// Most batch elements in one execution; 0: the model has no batch dimension.
    pub max_batch_size: usize,
    /// Whether requests are put together; without it each runs alone.
    pub batching: Option<Batching>,
    /// Executions at a time.
    pub instances: usize,
    /// The queue of requests that name no priority, and of all without priority levels.
    pub queue: QueuePolicy,
    /// Number of priority levels, 0 or 1 for none; 1 is the most urgent.
    pub priority_levels: u64,
    /// The level of requests that name none.
    pub default_priority: u64,
    /// Policies of levels that differ from `queue`.
    pub priority_queues: BTreeMap<u64, QueuePolicy>,
}

/// When a batch is closed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batching {
    /// Ascending; empty means `max_batch_size` only.
    pub preferred_sizes: Vec<usize>,
    /// Counted from the arrival of the oldest waiting request.
    pub max_delay: Duration,
    /// Answers leave in the order of arrival, across instances.
    pub preserve_ordering: bool,
}

/// How long a queue may be, and its requests may wait.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueuePolicy {
    /// Requests, not elements; 0 is unlimited.
    pub max_size: usize,
    pub timeout: Option<Duration>,
    pub on_timeout: TimeoutAction,
    /// Whether a request may shorten `timeout` (or set one where there is none).
    pub allow_override: bool,
}

/// What happens to a request that waited too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutAction {
    #[default]
    Reject,
    /// It goes behind all others that have not expired.
    Delay,
}

/// One request, checked against the signature.
#[derive(Debug)]
pub struct Job {
    /// One entry per declared input, in order.
    pub inputs: Vec<Option<Tensor>>,
    /// Indices of the outputs wanted, in order.
    pub outputs: Vec<usize>,
    /// Batch elements; 1 for a model without batch dimension.
    pub rows: usize,
    /// 0 means the default level.
    pub priority: u64,
    pub queue_timeout: Option<Duration>,
    pub deadline: Option<Instant>,
}

/// The answer to a [`Job`].
#[derive(Debug)]
pub struct Done {
    /// As asked for by [`Job::outputs`].
    pub outputs: Vec<Tensor>,
    pub execution: Execution,
}

/// Threads that run models, shared fairly by all schedulers. Cheap to clone.
#[derive(Clone)]
pub struct Compute {
    _private: (),
}

impl Compute {
    /// Starts `threads` compute threads.
    pub fn new(_threads: usize) -> Self {
        todo!()
    }
}

/// The queue of one loaded version. Share it in an [`Arc`].
pub struct Scheduler {
    _private: (),
}

impl Scheduler {
    pub fn new(
        _model: Arc<str>,
        _version: u64,
        _session: Arc<dyn Session>,
        _options: SchedulerOptions,
        _compute: Compute,
        _metrics: &Metrics,
    ) -> Self {
        todo!()
    }

    /// Queues and runs one job. Dropping the future cancels the job while it waits.
    pub async fn run(&self, _job: Job) -> Result<Done, InferError> {
        todo!()
    }

    /// Counters since the version was loaded.
    pub fn statistics(&self) -> ModelStatistics {
        todo!()
    }

    /// Waits until every job that has entered is answered.
    pub async fn drained(&self) {
        todo!()
    }
}

/// Metrics of all models, as `/metrics` shows them. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    _private: (),
}

impl Metrics {
    pub fn new() -> Self {
        todo!()
    }

    /// The registry, for metrics of other parts (requests by protocol, process, engine).
    pub fn with_registry<T>(
        &self,
        _with: impl FnOnce(&mut prometheus_client::registry::Registry) -> T,
    ) -> T {
        todo!()
    }

    /// OpenMetrics text.
    pub fn encode(&self) -> String {
        todo!()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Finds out by running the model whether its requests may share a batch: a batch of two must equal
/// two singles on every output. Blocks for several inferences.
pub fn verify_batching(_session: &dyn Session) -> BatchingVerdict {
    todo!()
}

/// Whether a model may be batched, in words for metadata and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchingVerdict {
    /// The first dimension of every input and output is the batch.
    Safe,
    /// It must not be; the reason.
    Unsafe(String),
}
