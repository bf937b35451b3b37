//! What is kept of jobs: each run, with what came of it.

use std::path::PathBuf;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use trainyard_agent::run::Seen;
use trainyard_api::TrainingJob;
use trainyard_control::job::State;
use trainyard_queue::{Grant, Resize, Waiting};

use super::records::{json, record};
use crate::replica::Run;
use crate::target::Origin;

/// Runs of one job that are kept.
const KEPT_RUNS: u32 = 20;
/// Attempts of one run that are told of; the newest.
pub(crate) const KEPT_ATTEMPTS: usize = 50;

/// One run of a job: from a person's `up` to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    pub name: String,
    /// Counts the runs of this name, from 1.
    pub run: u32,
    pub manifest: TrainingJob,
    pub origin: Origin,
    /// Where its command runs.
    pub folder: PathBuf,
    pub state: State,
    /// When it was declared, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// What was last wrong with it, for people.
    pub last_error: Option<String>,
    /// How far it was last.
    pub seen: Option<Seen>,
    /// A person wants it ended.
    pub stop: bool,
    /// A person has taken it off the list.
    pub forgotten: bool,
    /// The workers of the attempt that runs.
    pub workers: Vec<WorkerRecord>,
    /// Attempts that have ended, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// What its queue gave it; none while it waits for that, and in what older programs wrote.
    #[serde(default)]
    pub given: Option<Grant>,
    /// GPUs that are its own.
    #[serde(default)]
    pub gpus: Vec<String>,
    /// Why it waits in its queue.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// Its workers end and start again as so many.
    #[serde(default)]
    pub resize: Option<Resize>,
}

/// A worker of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRecord {
    pub index: u32,
    /// Its process; none before it was started.
    pub(crate) run: Option<Run>,
}

impl WorkerRecord {
    /// Its agent's process, if that very process still runs.
    pub fn running_pid(&self) -> Option<i32> {
        let identity = &self.run.as_ref()?.identity;
        identity.is_alive().then_some(identity.pid)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// Counts from 1.
    pub number: u32,
    /// In milliseconds since the Unix epoch.
    pub started_ms: i64,
    pub ended_ms: i64,
    /// In one word, for machines.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The step that was reached.
    pub step: Option<u64>,
}

/// All runs of all jobs: by name, the newest first.
pub(super) fn jobs(connection: &Connection) -> rusqlite::Result<Vec<JobRecord>> {
    let mut select =
        connection.prepare_cached("SELECT record FROM jobs ORDER BY name, run DESC")?;
    select.query_map(params![], record)?.collect()
}

/// Of all runs, by name and the newest first, the newest of each job.
pub(super) fn newest(mut runs: Vec<JobRecord>) -> Vec<JobRecord> {
    runs.dedup_by(|older, newer| older.name == newer.name);
    runs
}

/// Saves a run, and forgets the oldest beyond those that are kept.
pub(super) fn save_job(connection: &Connection, job: &JobRecord) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO jobs VALUES (?1, ?2, ?3)")?
        .execute(params![job.name, job.run, json(job)?])?;
    connection
        .prepare_cached("DELETE FROM jobs WHERE name = ?1 AND run <= ?2 - ?3")?
        .execute(params![job.name, i64::from(job.run), KEPT_RUNS])?;
    // Numbers of runs are used once, as with replicas.
    for run in job.workers.iter().filter_map(|worker| worker.run.as_ref()) {
        super::records::save_run_number(connection, run.number)?;
    }
    Ok(())
}
