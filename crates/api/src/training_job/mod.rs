//! `TrainingJob`: a program that trains on one or more workers, until it has finished.
//!
//! The doc comment of each field is its text in `kubectl explain`. Rules between fields are CEL
//! (`x-kubernetes-validations`), as for a [`ModelService`](crate::ModelService).

#![expect(unreachable_pub, reason = "kube's derive repeats each struct inside a function")]

mod checkpoint;
mod data;
mod framework;
mod progress;
mod queued_by;
mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::model_service::{EnvVar, Placement, Resources};
use crate::scalar::Period;

pub use checkpoint::{Checkpoint, CheckpointSignal, Writers};
pub use data::Data;
pub use framework::{Framework, Launcher};
pub use progress::{PATTERN_SIZE, Progress, wrong_log_pattern};
pub use queued_by::QueuedBy;
pub use status::TrainingJobStatus;

/// A program that trains on one or more workers until it has finished. All workers start together;
/// when one of them fails, all of them start again, from the newest checkpoint that the program
/// finds.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "TrainingJob",
    plural = "trainingjobs",
    shortname = "tj",
    category = "all",
    category = "trainyard",
    namespaced,
    status = "TrainingJobStatus",
    derive = "PartialEq",
    doc = "A program that trains on one or more workers until it has finished.",
    cel,
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "Why the phase is what it is"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".status.activeWorkers", description = "Workers that run"),
    printcolumn(name = "Attempts", type_ = "integer", json_path = ".status.attempts", description = "Times that the workers were started"),
    printcolumn(name = "Failures", type_ = "integer", json_path = ".status.failures", description = "Attempts that failed", priority = 1),
    printcolumn(name = "Framework", type_ = "string", json_path = ".spec.framework", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 52").message("the name becomes a part of host names: it must start with a lower-case letter, hold only lower-case letters, digits and `-`, end with a letter or digit, and have at most 52 characters"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.framework == 'pytorch' || !has(self.launcher)").message("only `pytorch` has a choice of launchers; remove it").field_path(".launcher"),
    validation = Rule::new("self.framework != 'tensorflow' || !has(self.processesPerWorker) || self.processesPerWorker == 1").message("TensorFlow uses all GPUs of a worker from one process; remove it, and set `workers.count` to the number of processes").field_path(".processesPerWorker"),
    validation = Rule::new("self.framework != 'pytorch' || !has(self.processesPerWorker) || !has(self.resources) || !has(self.resources.gpu) || !has(self.resources.gpu.count) || self.processesPerWorker <= self.resources.gpu.count").message("there are more processes than GPUs, and NCCL takes one process a GPU; lower it, or raise `resources.gpu.count`").field_path(".processesPerWorker"),
    validation = Rule::new("self.framework != 'pytorch' || !has(self.processesPerWorker) || self.processesPerWorker == 1 || !has(self.resources) || !has(self.resources.gpu) || has(self.resources.gpu.count)").message("the processes of one worker would have to share a part of one GPU, which NCCL cannot; ask for whole GPUs with `resources.gpu.count`, or set it to 1").field_path(".processesPerWorker"),
    validation = Rule::new("!has(self.data) || self.data.all(one, self.data.exists_one(other, other.name == one.name))").message("two of them have one name").field_path(".data"),
    validation = Rule::new("!has(self.placement) || !has(self.placement.spot) || self.placement.spot != 'only' || !has(self.checkpoint) || has(self.checkpoint.uri)").message("the disk of a spot node goes with the node, and `path` is on it; name a store with `checkpoint.uri`, or remove `checkpoint` if the job may begin anew each time").field_path(".checkpoint"),
    validation = Rule::new("!has(self.placement) || !has(self.placement.topology) || !has(self.placement.spread) || self.placement.spread != 'zones'").message("it keeps workers apart that `topology` keeps together; remove one of them").field_path(".placement.spread"),
    validation = Rule::new("has(self.queue) || !has(self.queuedBy)").message("it says whose queue `queue` names; name one, or remove it").field_path(".queuedBy"),
    validation = Rule::new("has(self.queue) || !has(self.priority)").message("it orders the jobs of a queue; name one with `queue`, or remove it").field_path(".priority"),
    validation = Rule::new("has(self.queue) || !has(self.workers) || !has(self.workers.min)").message("only a queue lets fewer workers start; name one with `queue`, or remove `min`").field_path(".workers"),
)]
pub struct TrainingJobSpec {
    /// What the program is written with, which says how its processes find each other: `pytorch`,
    /// `tensorflow`, `jax`, `mpi` or `generic`.
    pub framework: Framework,
    /// With `pytorch`: who starts the processes of a worker, `torchrun` or `agent` (Trainyard
    /// itself). Default: torchrun where the command is torchrun, else agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<Launcher>,
    /// The container image. Processes on a laptop ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// The program. `$(NAME)` stands for a variable of `env`.
    #[schemars(length(min = 1, max = 256))]
    pub command: Vec<String>,
    /// Arguments after the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub args: Option<Vec<String>>,
    /// Environment variables. Those by which processes find each other are Trainyard's to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub env: Option<Vec<EnvVar>>,
    /// How many workers there are. Default: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// Processes of each worker. Default: with `pytorch` one for each GPU of
    /// `resources.gpu.count`; one otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub processes_per_worker: Option<u32>,
    /// What one worker may use. Default: 1 CPU and 2Gi of memory, no GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What the program reads: it is there when the program starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub data: Option<Vec<Data>>,
    /// Where the program keeps its checkpoints, and how it is asked for one. Default: it is not
    /// asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// How to see that the program gets on. Default: a program that hangs is not noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How long the job may take, with all its attempts, such as `12h`. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Period>,
    /// Failures after which the workers start again. Interruptions do not count. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub retries: Option<u32>,
    /// True stops the job: the program is asked for a checkpoint, and all workers end. False, or
    /// leaving it out, lets it go on. Acted on in Kubernetes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// How long a job that is over stays before it is deleted, with its pods and their logs, such
    /// as `24h`. Acted on in Kubernetes only. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Period>,
    /// The Queue that says when it may start, and how many workers at once its jobs may have; or, in
    /// Kubernetes, a queue of Kueue, KAI or Volcano (see `queuedBy`). Default: in Kubernetes it starts
    /// at once; on one machine when there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub queue: Option<String>,
    /// Whose queue that is: `trainyard`, `kueue`, `kai` or `volcano`. Acted on in Kubernetes only.
    /// Default: the first of Kueue, KAI and Volcano that is installed and has a queue of that name,
    /// else Trainyard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_by: Option<QueuedBy>,
    /// Who goes first in the queue: higher before lower, and of equals the one that was declared
    /// first. The nodes' own order of pods is `priorityClass`. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000000, max = 1000000))]
    pub priority: Option<i32>,
    /// The PriorityClass of the workers' pods. Acted on in Kubernetes only. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class: Option<String>,
    /// Where workers may run. Acted on in Kubernetes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

/// How many workers there are.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.min) || self.min <= self.count").message("it is more than `count`; lower it").field_path(".min"),
)]
pub struct Workers {
    /// Workers, all of which run at once or none.
    #[schemars(range(min = 1, max = 1000))]
    pub count: u32,
    /// So many will do where its queue has no room for all of them; the job grows and shrinks between
    /// the two while it runs. Default: all are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min: Option<u32>,
}
