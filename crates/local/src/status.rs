//! What is, as commands show it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::fleet::Phase as ReplicaPhase;
pub use trainyard_agent::run::Seen;
pub use trainyard_api::queue::QueueUse;

/// A supervisor and its services at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the program that runs.
    pub version: String,
    pub pid: u32,
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// By name.
    pub services: Vec<ServiceStatus>,
    /// By name; those that are over too, until a person takes them off.
    #[serde(default)]
    pub jobs: Vec<JobStatus>,
    /// The queues that jobs of this machine wait in: those that were declared by name, then the
    /// machine's own.
    #[serde(default)]
    pub queues: Vec<QueueStatus>,
    /// It finishes what is in flight, and ends.
    pub stopping: bool,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub name: String,
    /// `Stable`, `Progressing`, `Paused`, `Aborted` or `Stalled`: the rollout's phase.
    pub phase: String,
    /// Why, in one word.
    pub reason: String,
    /// What was declared last is being prepared, and the rest is still about what was before.
    #[serde(default)]
    pub preparing: bool,
    /// How its model comes here; none if it is here, or lies on this machine anyway.
    #[serde(default)]
    pub fetch: Option<Fetch>,
    /// The revision that it should be at.
    pub target: String,
    /// Replicas that it should have.
    pub wanted: u32,
    pub min: u32,
    pub max: u32,
    pub ready: u32,
    /// What the autoscaler sees; none before it has decided.
    #[serde(default)]
    pub autoscaler: Option<AutoscalerStatus>,
    pub revisions: Vec<RevisionStatus>,
    pub replicas: Vec<ReplicaStatus>,
    /// What happened lately, oldest first.
    pub events: Vec<Recent>,
    /// What was last wrong, for people; none once it is mended.
    pub last_error: Option<String>,
    /// What of its manifest has no effect here.
    pub notes: Vec<String>,
    /// Names that requests call the model by.
    pub models: Vec<String>,
    /// The model's or manifest's path.
    pub source: PathBuf,
    /// Callers need an API key.
    pub needs_key: bool,
    /// The body of a request that works for this model; none until it is ready.
    pub example: Option<Example>,
    /// The example is there, or none can be made: the server does not speak the Open Inference
    /// Protocol.
    pub example_known: bool,
}

impl ServiceStatus {
    /// Whether the revision that was asked for serves with all replicas that it should have.
    pub fn is_settled(&self) -> bool {
        !self.preparing
            && self.fetch.is_none()
            && self.phase == "Stable"
            && self.ready >= self.wanted
    }

    /// Whether a change of it waits, for its pause to end or for evidence, while the revision before
    /// it serves. Replicas of the new one are ready by then.
    pub fn waits(&self) -> bool {
        !self.preparing && self.fetch.is_none() && self.phase == "Paused"
    }

    /// Whether it needs a person, or may need one: a fetch that fails is tried again by itself, and
    /// may fail for ever.
    pub fn has_failed(&self) -> bool {
        let is_retrying = matches!(self.fetch, Some(Fetch::Retrying { .. }));
        !self.preparing && (is_retrying || matches!(self.phase.as_str(), "Aborted" | "Stalled"))
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    pub name: String,
    /// Counts the runs of this name, from 1.
    pub run: u32,
    pub framework: String,
    /// `Waiting`, `Running`, `Ending`, `Succeeded`, `Failed` or `Interrupted`.
    pub phase: String,
    /// Why, in one word.
    pub reason: String,
    pub is_over: bool,
    /// Times that the workers were started.
    pub attempts: u32,
    pub failures: u32,
    /// Failures after which the workers start again.
    pub retries: u32,
    pub interruptions: u32,
    /// Workers that it has when it runs.
    pub wanted: u32,
    /// By index; those of the latest attempt.
    pub workers: Vec<WorkerStatus>,
    /// How far it is, as the first worker that tells it says.
    pub seen: Option<Seen>,
    /// When it was declared, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    pub ended_ms: Option<i64>,
    /// When it starts again, while it waits, if that is known.
    pub starts_at_ms: Option<i64>,
    /// Whether its queue has let it in; none of one that is over.
    #[serde(default)]
    pub quota: Option<JobQuota>,
    /// What was last wrong, for people.
    pub last_error: Option<String>,
    /// What of its manifest has no effect here.
    pub notes: Vec<String>,
    /// The manifest's path.
    pub source: PathBuf,
    /// What happened lately, oldest first.
    pub events: Vec<Recent>,
}

/// What its queue says of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobQuota {
    /// It has what it needs; else it waits.
    pub is_reserved: bool,
    /// In one word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Nothing but a changed manifest lets it start.
    pub needs_a_person: bool,
}

/// One queue, who waits in it and who has what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    pub name: String,
    pub cohort: Option<String>,
    pub usage: Vec<QueueUse>,
    /// What it has borrowed of what its cohort lends, by its weight, in thousandths.
    pub share: u64,
    /// In their order.
    pub waiting: Vec<JobWaiting>,
    /// Jobs, and in the machine's own queue services, which come first.
    pub admitted: Vec<JobAdmitted>,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobWaiting {
    pub job: String,
    pub priority: i32,
    /// That it asks for.
    pub workers: u32,
    /// In one word.
    pub reason: String,
    /// For people.
    pub message: String,
    pub behind: Option<String>,
    /// How many are before it.
    pub ahead: usize,
    /// As things stand, in milliseconds since the Unix epoch; none if that depends on jobs that do
    /// not say how long they run.
    pub expected_start_ms: Option<i64>,
}

/// What has its part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobAdmitted {
    /// Or the service.
    pub job: String,
    pub priority: i32,
    pub workers: u32,
    /// The quota that it uses.
    pub pool: String,
    /// With it the queue used more than its own.
    pub borrows: bool,
    pub phase: String,
    /// In milliseconds since the Unix epoch.
    pub since_ms: i64,
}

impl JobStatus {
    /// Whether it waits for its queue.
    pub fn waits_in_queue(&self) -> bool {
        !self.is_over && self.quota.as_ref().is_some_and(|quota| !quota.is_reserved)
    }

    /// Whether it has come to an end that is none of success.
    pub fn has_failed(&self) -> bool {
        self.is_over && self.phase != "Succeeded"
    }

    /// Whether only a person can let it start: it asks for what its queue will never have.
    pub fn needs_a_person(&self) -> bool {
        self.waits_in_queue() && self.quota.as_ref().is_some_and(|quota| quota.needs_a_person)
    }

    /// Workers that run.
    pub fn running(&self) -> usize {
        self.workers.iter().filter(|worker| worker.state == "running").count()
    }
}

/// One worker of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    pub id: String,
    /// `starting`, `running`, `finished`, `failed` or `interrupted`.
    pub state: String,
    pub pid: Option<i32>,
    /// Where its metrics are.
    pub metrics: Option<SocketAddr>,
    pub seen: Option<Seen>,
    /// Milliseconds since the Unix epoch at which its state began.
    pub since_ms: i64,
    /// How it ended, for people.
    pub message: Option<String>,
}

/// How a model comes to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum Fetch {
    /// It is under way.
    Transferring(Transfer),
    /// It failed, and is tried again by itself.
    Retrying {
        /// Attempts in a row that failed.
        failures: u32,
        /// When the next one begins, in milliseconds since the Unix epoch.
        at_ms: i64,
    },
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    pub stage: Stage,
    /// Bytes of this stage.
    pub done_bytes: u64,
    /// None where the store does not say.
    pub total_bytes: Option<u64>,
}

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Another process fetches the same model.
    Waiting,
    Downloading,
    /// Its SHA-256 is computed.
    Verifying,
}

/// What the autoscaler sees and wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerStatus {
    /// Replicas that demand asks for, before `min` and `max`.
    pub desired: u32,
    /// Mean of the requests in flight or held, over the stable window.
    pub stable_concurrency: f64,
    /// The same over the panic window.
    pub panic_concurrency: f64,
    /// A burst was seen, and nothing is taken away.
    pub panicking: bool,
    /// Why, in one word.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    pub name: String,
    /// Percent of the requests that it gets.
    pub weight: u32,
    pub replicas: u32,
    pub ready: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    pub id: String,
    pub revision: String,
    #[serde(rename = "state")]
    pub phase: ReplicaPhase,
    pub pid: Option<i32>,
    pub address: Option<SocketAddr>,
    /// Times that it was started again.
    pub restarts: u32,
    /// Milliseconds since the Unix epoch at which its phase began.
    pub since_ms: i64,
    /// Why it is not ready, for people.
    pub message: Option<String>,
}

/// Something that happened lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recent {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What it happened to.
    pub object: String,
    /// In one word, for machines.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// A request that works for a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "text")]
pub enum Example {
    /// The body itself, as JSON.
    Body(String),
    /// A Python program that prints the body, for those too long for a command line.
    Program(String),
}
