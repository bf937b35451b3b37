//! Queues and batches the requests of one model version, and runs them on an engine session.
//!
//! In: a [`Job`] that was checked against the model's signature. Out: its outputs, and how it was
//! executed. Knows nothing of protocols, versions or files.
//!
//! A request either runs where it was decoded ([`fast_path`]) or enters a [`queue`]. When an instance
//! and a [`compute`] thread are free, [`form`] decides which requests run together and [`execute`]
//! runs them; [`run`] is the shell around these.

mod batch;
mod compute;
mod estimate;
mod execute;
mod fast_path;
mod form;
mod job;
mod options;
mod order;
mod queue;
mod run;
mod verify;

#[cfg(test)]
mod fixtures;

pub use compute::Compute;
pub use job::{Done, Job};
pub use options::{Batching, QueuePolicy, SchedulerOptions, TimeoutAction};
pub use run::Scheduler;
pub use verify::{BatchingVerdict, Pair, SingleRun, Verification, verify_batching};

pub use crate::metrics::Metrics;
