//! What a queue may use, lend and borrow, and how it orders its workloads.

use crate::amounts::Resource;

/// A queue of workloads, and what they may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Queues of one cohort lend each other what they do not use. None lends and borrows nothing.
    pub cohort: Option<String>,
    /// In the order in which they are tried.
    pub flavours: Vec<FlavourQuota>,
    pub strategy: Strategy,
    pub preemption: Preemption,
    /// Its part of what a cohort has to lend, against other weights. Where one queue of a cohort has
    /// a weight the cohort shares fairly, and queues without one have 1.
    pub weight: Option<u32>,
}

/// Quotas of one kind of machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlavourQuota {
    pub flavour: String,
    /// None is not rationed.
    pub cpu: Option<Quota>,
    pub memory: Option<Quota>,
    pub gpu: Option<Quota>,
}

impl FlavourQuota {
    pub fn of(&self, resource: Resource) -> Option<Quota> {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
            Resource::Gpu => self.gpu,
        }
    }
}

/// How much of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Its own.
    pub nominal: u64,
    /// It uses at most so much beyond its own; none for as much as there is.
    pub borrowing_limit: Option<u64>,
    /// It lends at most so much of its own; none for all of it.
    pub lending_limit: Option<u64>,
}

impl Quota {
    /// What nobody else may have of it.
    pub(crate) fn guaranteed(&self) -> u64 {
        self.lending_limit.map_or(0, |limit| self.nominal.saturating_sub(limit))
    }

    /// What others may have of it.
    pub(crate) fn lendable(&self) -> u64 {
        self.nominal - self.guaranteed()
    }
}

/// Who may start while the first of a queue has to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Nobody behind it.
    StrictFifo,
    /// Everybody who fits. A large workload may wait for ever.
    BestEffortFifo,
    /// Who fits and does not delay it: who has ended by then, or uses what it leaves (EASY).
    #[default]
    Backfill,
}

/// Whom workloads of a queue may push out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preemption {
    pub within_queue: WithinQueue,
    pub reclaim_within_cohort: ReclaimWithinCohort,
    pub borrow_within_cohort: BorrowWithinCohort,
}

/// Workloads of the same queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WithinQueue {
    #[default]
    Never,
    LowerPriority,
    /// And those of equal priority that were declared later.
    LowerOrNewerEqualPriority,
}

/// Workloads of other queues of the cohort, which use more than their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReclaimWithinCohort {
    #[default]
    Never,
    LowerPriority,
    Any,
}

/// The same, by a workload that would itself use more than its queue's own. Where a cohort shares
/// fairly, shares decide instead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BorrowWithinCohort {
    #[default]
    Never,
    /// Workloads of lower priority, and none above the threshold if there is one.
    LowerPriority { max_priority: Option<i32> },
}
