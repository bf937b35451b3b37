//! The doctor: finds what is wrong in a cluster, and why, from a snapshot of it.
//!
//! In: a [`Snapshot`] (objects, events, log tails, node probes, metrics, and what could not be read).
//! Out: an [`Answer`]: findings with their evidence and fix, and checks whose answer is unknown.
//! Reads no file, asks no cluster, knows no time but the snapshot's.
//!
//! [`view`] indexes a snapshot; [`schedule`] has the scheduler's filters, and [`pending`] says by
//! them what keeps a pod from a node; the [`registry`] has the diagnoses, one file each, in the order
//! of the decision tree: [`placement`], [`start`], [`run`], [`slow`], [`node`]; [`diagnose()`] runs
//! them. [`occupancy()`] gives the same snapshot to those who pack pods. [`redact`] takes out of objects what must not leave a cluster.

mod answer;
mod diagnosis;
mod engine;
mod exposition;
mod focus;
#[doc(hidden)]
pub mod fuzzing;
mod matching;
mod occupancy;
pub mod pages;
mod patch;
mod pending;
pub mod redact;
pub mod registry;
mod report;
mod schedule;
mod snapshot;
mod view;
pub mod wanted;
pub mod xid;

// The diagnoses, one folder for each step of the decision tree.
mod node;
mod placement;
mod run;
mod slow;
mod start;

pub use answer::{Answer, Confidence, Evidence, Finding, Fix, ObjectRef, Unknown};
pub use diagnosis::{Diagnosis, Need};
pub use engine::diagnose;
pub use exposition::{METRICS, samples};
pub use focus::{Focus, Target, TargetError};
pub use occupancy::{Aside, Moving, Occupancy, OccupancyError, Occupant, Waiting, occupancy};
pub use snapshot::{
    FORMAT, LogTail, NodeProbe, PROBE_FORMAT, Sample, Snapshot, SnapshotError, Unread,
};
pub use trainyard_rules::Level;
