//! Decides which jobs may start where more is asked for than there is.
//!
//! In: a [`Snapshot`] of queues with quotas and of workloads, and the time. Out: [`Decisions`]: who
//! starts, who has to make room for whom, and why everybody else waits, behind whom and until when.
//! All or nothing: a workload gets room for all its workers, or for as many as it said would do.
//! Knows nothing of Kubernetes, processes, tasks or clocks: time arrives as a value, and equal
//! snapshots have equal decisions.
//!
//! The rules of quota, borrowing and preemption are those of Kueue; `docs/queue.md` says where we
//! differ. Reading order: [`Queue`] and [`Workload`] are what goes in, `cohort` is one closed economy
//! of queues, `ledger` what is used of it, `preempt` who makes room, `reservation` what those behind
//! a waiting job must leave to it, `forecast` when who waits may start, `cycle` brings all together.
//! [`Growth`] says when room is worth a new start with more workers, [`Machine`] is one machine that
//! has to have room for what all queues let in; [`Grant`] what a workload was given, and `spec` reads
//! the resource.

mod amounts;
mod cohort;
mod cycle;
mod decision;
mod forecast;
mod grant;
mod growth;
mod ledger;
mod machine;
mod preempt;
mod queue;
mod reservation;
mod spec;
mod workload;

pub use amounts::{Amounts, Resource};
pub use cycle::decide;
pub use decision::{
    Assignment, Because, Decision, Decisions, Eviction, FlavourUse, Resize, Room, Used, Wait,
    Waiting, Why,
};
pub use grant::Grant;
pub use growth::Growth;
pub use machine::Machine;
pub use queue::{
    BorrowWithinCohort, FlavourQuota, Preemption, Queue, Quota, ReclaimWithinCohort, Strategy,
    WithinQueue,
};
pub use spec::queue_of;
pub use workload::{Admission, Snapshot, Workload};
