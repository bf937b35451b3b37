//! What wants to run, and what runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::amounts::Amounts;
use crate::queue::Queue;

/// All that decisions are made from. Times are since one epoch of the caller's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By name.
    pub queues: BTreeMap<String, Queue>,
    /// By name: what waits and what was admitted.
    pub workloads: BTreeMap<String, Workload>,
}

/// Workers that all run or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    pub queue: String,
    /// Higher goes first.
    pub priority: i32,
    /// Among equal priorities earlier goes first.
    pub created: Duration,
    /// Of one worker.
    pub per_worker: Amounts,
    pub count: u32,
    /// It can do with so many workers; none if it needs all.
    pub min_count: Option<u32>,
    /// What it costs at most to start all its workers anew: a checkpoint, and their start. None if that
    /// would lose what it has done: it gets no more workers while it runs.
    pub restart_cost: Option<Duration>,
    /// Flavours that will do.
    pub flavours: Vec<String>,
    /// It runs no longer than this, if that is known.
    pub run_time: Option<Duration>,
    /// What it was given; none while it waits.
    pub admission: Option<Admission>,
}

/// What an admitted workload has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    pub flavour: String,
    pub count: u32,
    /// When it was given what it has.
    pub since: Duration,
    /// By when it has ended, if that is known.
    pub ends_by: Option<Duration>,
    /// It was told to make room and has not left yet.
    pub is_leaving: bool,
    /// It was told to give up workers and has them still: so many it will have.
    pub shrinks_to: Option<u32>,
}
