//! One replica: a process that is started, probed, restarted and ended.

mod address;
mod cgroup;
mod exit;
mod health;
mod identity;
mod launch;
mod logs;
mod probe;
mod process;
mod task;

use std::net::SocketAddr;
use std::sync::Arc;

use trainyard_control::restart::{Ending, Restart};
use trainyard_plan::Workload;

pub(crate) use cgroup::{out_of_memory as cgroup_out_of_memory, remove as remove_cgroup};
pub(crate) use exit::{Exit, describe_exit};
pub(crate) use identity::{Identity, marked};
pub(crate) use launch::{Spec, launch};
pub(crate) use logs::{last_lines, rotate};
pub(crate) use probe::get;
pub(crate) use process::{Process, end, kill};
pub(crate) use task::{QUOTED_LINES, ROTATE_EVERY, Shared, Start, run};

/// A place for one process at a time of one revision, such as `iris-7c9f0e12ab-0`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    pub(crate) id: Arc<str>,
    pub(crate) service: Arc<str>,
    pub(crate) workload: Arc<Workload>,
    /// Where its command runs: the folder of the manifest.
    pub(crate) folder: Arc<std::path::Path>,
}

impl Slot {
    fn spec(&self) -> Spec<'_> {
        Spec {
            id: &self.id,
            owner: &self.service,
            folder: &self.folder,
            program: &self.workload.program,
            args: &self.workload.args,
            env: &self.workload.env,
            ports: &self.workload.ports,
            volumes: &self.workload.volumes,
            resources: &self.workload.resources,
        }
    }
}

/// One process that a slot had: what a later supervisor needs to take it over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Run {
    /// Counts the processes of this state folder; never used twice.
    pub(crate) number: u64,
    pub(crate) identity: Identity,
    /// Known once the replica listens.
    pub(crate) address: Option<SocketAddr>,
    /// Bytes in the log before this process.
    pub(crate) log_start: u64,
    /// Its cgroup, if it has one of its own.
    pub(crate) cgroup: Option<std::path::PathBuf>,
}

impl Run {
    /// The endpoint's name in the gateway: a restarted replica is another endpoint.
    pub(crate) fn endpoint(&self, slot: &str) -> Arc<str> {
        format!("{slot}/{}", self.number).into()
    }
}

/// What a replica tells its supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// A process is there, or was taken over.
    Started { run: Run, adopted: bool, notes: Vec<String> },
    /// It told where it listens.
    Listening(SocketAddr),
    /// Its readiness probe passes.
    Ready,
    /// Its readiness probe fails.
    Unready { because: String },
    /// It will be ended by its own task: take it out of the gateway's table, then answer.
    Leaving { done: tokio::sync::oneshot::Sender<()> },
    /// It ended unasked, and starts again at `restart.at`.
    Ended { ending: Ending, message: String, restart: Restart },
    /// It ended as asked; nothing follows.
    Stopped { forced: bool },
}
