//! Decides: how many replicas, which revision gets how much traffic, when to start or fetch again,
//! what a training job does next, whether what it needs was found, who says when it may start.
//!
//! In: a plan's policy, what was observed, and the time as a value. Out: a decision with its
//! reason, one enum that becomes the event, the metric label and the status. Knows nothing of
//! processes, Kubernetes or clocks: `now` is the [`Duration`](std::time::Duration) since any fixed
//! start, the same for all calls.

pub mod autoscale;
pub mod fetch;
pub mod handover;
pub mod job;
pub mod preflight;
pub mod restart;
pub mod rollout;
