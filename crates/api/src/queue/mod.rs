//! `Queue`: what jobs that name it may use together, and who of them goes first.

#![expect(unreachable_pub, reason = "kube's derive repeats each struct inside a function")]

mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{CpuBudget, MemoryBudget};

pub use status::{QueueStatus, QueueUse};

/// What jobs that name it may use together, and who of them goes first.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "Queue",
    plural = "queues",
    shortname = "tq",
    category = "trainyard",
    status = "QueueStatus",
    derive = "PartialEq",
    doc = "What jobs that name it may use together, and who of them goes first.",
    cel,
    printcolumn(name = "Cohort", type_ = "string", json_path = ".spec.cohort"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting", description = "Jobs that wait"),
    printcolumn(name = "Admitted", type_ = "integer", json_path = ".status.admitted", description = "Jobs that have what they asked for"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.strategy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 52").message("the name must start with a lower-case letter, hold only lower-case letters, digits and `-`, end with a letter or digit, and have at most 52 characters"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.quotas.all(a, self.quotas.exists_one(b, b.pool == a.pool))").message("a pool is named twice; write its amounts in one entry").field_path(".quotas"),
    validation = Rule::new("has(self.cohort) || !self.quotas.exists(q, (has(q.cpu) && (has(q.cpu.borrowingLimit) || has(q.cpu.lendingLimit))) || (has(q.memory) && (has(q.memory.borrowingLimit) || has(q.memory.lendingLimit))) || (has(q.gpu) && (has(q.gpu.borrowingLimit) || has(q.gpu.lendingLimit))))").message("without a cohort nobody lends and nobody borrows; name one with `cohort`, or remove `borrowingLimit` and `lendingLimit`").field_path(".quotas"),
    validation = Rule::new("has(self.cohort) || !has(self.fairSharing)").message("without a cohort there is nothing to share; name one with `cohort`, or remove it").field_path(".fairSharing"),
    validation = Rule::new("!has(self.fairSharing) || !has(self.preemption) || !has(self.preemption.borrowWithinCohort)").message("in a cohort that shares fairly shares decide who makes room; remove it, or `fairSharing`").field_path(".preemption"),
)]
pub struct QueueSpec {
    /// Queues of one cohort lend each other what they do not use. Default: it lends and borrows
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub cohort: Option<String>,
    /// What its jobs may use together, for each pool of GPUs. A job that asks for no GPU, or names no
    /// pool, uses the quota of `default`. What has no quota is not rationed; a pool that is not named
    /// cannot be used.
    #[schemars(length(min = 1, max = 16))]
    pub quotas: Vec<PoolQuota>,
    /// Who may start while the first has to wait: `strict` (nobody behind it), `bestEffort` (everybody
    /// who fits, so that a large job may wait for ever), or `backfill` (who fits and does not delay
    /// it). Default: backfill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Whom its jobs may push out. Default: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Preemption>,
    /// Its part of what the cohort lends. Where one queue of a cohort has a weight, what is lent is
    /// shared by weight. Default: no weight; 1 where another queue has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fair_sharing: Option<FairSharing>,
}

/// What jobs may use of one pool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PoolQuota {
    /// The GpuPool, or `default`.
    #[schemars(length(min = 1, max = 63))]
    pub pool: String,
    /// CPU of all workers. Default: not rationed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuQuota>,
    /// Memory of all workers. Default: not rationed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryQuota>,
    /// GPUs of all workers, or parts of one as the pool shares them. Default: not rationed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuQuota>,
}

/// How much CPU.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CpuQuota {
    /// The queue's own, such as `64`; with `0` its jobs use none but what others lend.
    pub nominal: CpuBudget,
    /// It uses at most so much beyond its own. Default: as much as the cohort has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowing_limit: Option<CpuBudget>,
    /// It lends at most so much of its own. Default: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lending_limit: Option<CpuBudget>,
}

/// How much memory.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MemoryQuota {
    /// The queue's own, such as `256Gi`; with `0` its jobs use none but what others lend.
    pub nominal: MemoryBudget,
    /// It uses at most so much beyond its own. Default: as much as the cohort has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowing_limit: Option<MemoryBudget>,
    /// It lends at most so much of its own. Default: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lending_limit: Option<MemoryBudget>,
}

/// How many GPUs, or parts of one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GpuQuota {
    /// The queue's own; with `0` its jobs use none but what others lend.
    #[schemars(range(max = 1000000))]
    pub nominal: u32,
    /// It uses at most so many beyond its own. Default: as many as the cohort has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000000))]
    pub borrowing_limit: Option<u32>,
    /// It lends at most so many of its own. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000000))]
    pub lending_limit: Option<u32>,
}

/// Who may start while the first has to wait.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    Strict,
    BestEffort,
    #[default]
    Backfill,
}

/// Whom jobs may push out. Who is pushed out is asked for a checkpoint, and waits again.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Preemption {
    /// Jobs of this queue: `never`, `lowerPriority`, or `lowerOrNewerEqualPriority`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_queue: Option<WithinQueue>,
    /// Jobs of queues of the cohort that use more than their own: `never`, `lowerPriority`, or `any`.
    /// Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_within_cohort: Option<ReclaimWithinCohort>,
    /// The same, by jobs that would themselves use more than this queue's own. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrow_within_cohort: Option<BorrowWithinCohort>,
}

/// Jobs of the same queue that may be pushed out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum WithinQueue {
    #[default]
    Never,
    LowerPriority,
    LowerOrNewerEqualPriority,
}

/// Jobs of other queues that may be pushed out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum ReclaimWithinCohort {
    #[default]
    Never,
    LowerPriority,
    Any,
}

/// Jobs of other queues that may be pushed out by one that borrows itself: those of lower priority.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BorrowWithinCohort {
    /// None of a higher priority than this. Default: only the job's own priority counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000000, max = 1000000))]
    pub max_priority: Option<i32>,
}

/// How what the cohort lends is shared.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FairSharing {
    /// The queue's part against the other queues' weights.
    #[schemars(range(min = 1, max = 1000000))]
    pub weight: u32,
}
