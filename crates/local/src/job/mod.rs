//! One worker of a job: an agent that is started, followed and ended, but never restarted: that is
//! the whole job's affair; and the look at a job's data before that.

mod check;
mod ports;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trainyard_agent::run::Report;
use trainyard_control::job;
use trainyard_plan::{EnvVar, Program, Resources, Value};

pub(crate) use check::{Look, Looked, Wanted, look};
pub(crate) use ports::free_ports;
pub(crate) use worker::{Stops, outcome, run};

use crate::replica::{Run, Spec};

/// A worker of one attempt, such as `digits-1-0`: job, run and index.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) id: Arc<str>,
    pub(crate) job: Arc<str>,
    pub(crate) index: u32,
    pub(crate) attempt: u32,
    pub(crate) program: Program,
    pub(crate) args: Vec<Value>,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) resources: Resources,
    /// Where its command runs: the folder of the manifest.
    pub(crate) folder: PathBuf,
    /// How long its program may take for a checkpoint and its end.
    pub(crate) grace: Duration,
}

impl Slot {
    pub(super) fn spec(&self) -> Spec<'_> {
        Spec {
            id: &self.id,
            owner: &self.job,
            folder: &self.folder,
            program: &self.program,
            args: &self.args,
            env: &self.env,
            ports: &[],
            volumes: &[],
            resources: &self.resources,
        }
    }
}

/// The file in which the agents of one worker report, attempt after attempt.
pub(crate) fn report_file(run_folder: &Path, id: &str) -> PathBuf {
    run_folder.join(format!("{id}.report"))
}

/// The name of a worker and of its log.
pub(crate) fn worker_id(job: &str, run: u32, index: u32) -> String {
    format!("{job}-{run}-{index}")
}

/// Which attempt of which job an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) job: Arc<str>,
    pub(crate) run: u32,
    pub(crate) attempt: u32,
    pub(crate) index: u32,
}

/// What a worker tells its supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// A process is there, or was taken over.
    Started { run: Run, adopted: bool, notes: Vec<String> },
    /// It reports how far it is.
    Reported(Box<Report>),
    /// It ended; nothing follows.
    Ended { outcome: job::Worker, message: String, report: Option<Box<Report>> },
}
