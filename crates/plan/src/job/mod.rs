//! Jobs: a `TrainingJob` becomes a [`JobPlan`], and that the processes of each worker.
//!
//! Both back ends start the same thing on every worker, `trainyard agent run` ([`JobPlan::agent`]),
//! and tell it of the others by one variable, [`GANG`]. What each process finds in its environment
//! follows from that in [`Gang::variables`], one file a framework.

mod compile;
mod data;
mod demand;
mod devices;
mod gang;
mod handover;
mod jax;
mod mpi;
mod pytorch;
mod storage;
mod tensorflow;

pub use compile::{Checkpoint, JobError, JobPlan, Progress, compile_job};
pub use data::{DataSet, data_variable};
pub use demand::{Demand, with_workers};
pub use gang::{Address, GANG, Gang, GangError, Process};
pub use handover::{Handover, QueueSystem};
pub use mpi::{LaunchFile, Mpirun};
