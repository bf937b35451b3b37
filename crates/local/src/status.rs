//! What is, as commands show it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::fleet::Phase as ReplicaPhase;
pub use trainyard_agent::run::Seen;

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
    /// When it starts again, while it waits.
    pub starts_at_ms: Option<i64>,
    /// What was last wrong, for people.
    pub last_error: Option<String>,
    /// What of its manifest has no effect here.
    pub notes: Vec<String>,
    /// The manifest's path.
    pub source: PathBuf,
    /// What happened lately, oldest first.
    pub events: Vec<Recent>,
}

impl JobStatus {
    /// Whether it has come to an end that is none of success.
    pub fn has_failed(&self) -> bool {
        self.is_over && self.phase != "Succeeded"
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
