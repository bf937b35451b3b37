//! The first process of a training worker: starts the program's processes, watches them, asks for
//! checkpoints, ends them, and says how it went.
//!
//! In: [`Settings`]. Out: [`Ended`], and on the way a [`Report`] for the back end and metrics. What to
//! do when is decided by `course`, whether there is progress by `progress`; the rest carries it out.

mod ask;
mod course;
mod data;
mod gathering;
mod keeping;
mod listen;
mod metrics;
mod notice;
mod output;
mod pace;
mod peers;
mod processes;
mod progress;
mod remote;
mod report;
mod shell;
mod token;
mod tree;
mod wire;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use course::{Cause, EXIT_HUNG, EXIT_INTERRUPTED};
pub use data::{Data, DataSet};
pub use gathering::Gathering;
pub use notice::{Cloud, METADATA, Notice};
pub use peers::{Door, Gang};
pub use remote::{CallError, Called, Remote, Role, call};
pub use report::{Ended, Kept, Report, Saved, Seen};
pub use rustix::process::Signal;
pub use shell::run;
pub use token::{Token, TokenError};

/// What an agent is started with.
pub struct Settings {
    /// The job's name, for metrics.
    pub job: String,
    pub worker: u32,
    /// Counts from 1.
    pub attempt: u32,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// How often it is started, and with what each time; empty for a worker that follows the first.
    pub processes: Vec<Process>,
    /// How commands come from other workers; none where each starts its processes itself.
    pub remote: Option<Remote>,
    /// What it reads.
    pub data: Data,
    pub checkpoint: Option<Checkpoint>,
    /// The store of its checkpoints; none if they stay where they are.
    pub store: Option<trainyard_checkpoint::Settings>,
    /// The workers that restore together; none where each asks the store for everything.
    pub peers: Option<Gang>,
    /// A program without progress for so long is ended.
    pub progress_timeout: Option<Duration>,
    /// Lines that match are progress. Groups `step` and `loss` are numbers.
    pub log_pattern: Option<regex::Regex>,
    /// The file that the program writes to show progress.
    pub heartbeat: PathBuf,
    /// Workers that must be ready before the program starts; none where each is known to be there.
    pub gathering: Option<Gathering>,
    /// Where the [`Report`] is written, and that of an earlier attempt read.
    pub report: Option<PathBuf>,
    /// Where metrics are served; port 0 takes any free one.
    pub metrics: Option<SocketAddr>,
    /// Whose notices of interruption are looked for; none for no cloud.
    pub cloud: Option<Cloud>,
    /// The metadata service: [`METADATA`], but in tests.
    pub metadata: SocketAddr,
}

impl Settings {
    /// What of each checkpoint this worker brings to the store; none if it brings nothing.
    fn part(&self) -> Option<trainyard_checkpoint::Part> {
        self.store.as_ref().and_then(|store| store.part)
    }

    /// The file by which the program is asked for checkpoints while it goes on; none if it is not.
    fn request_file(&self) -> Option<PathBuf> {
        let part = self.part()?;
        self.checkpoint.and_then(|checkpoint| checkpoint.interval).filter(|_| part.index == 0)?;
        Some(self.heartbeat.with_added_extension("checkpoint"))
    }

    /// Whether another worker has the program, and this one runs what it is asked to.
    fn is_led(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| matches!(remote.role, Role::Follows))
    }
}

/// One process of the program.
pub struct Process {
    pub rank: u32,
    /// Variables beside the agent's own.
    pub variables: Vec<(OsString, OsString)>,
}

/// How a program is asked for a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    pub signal: Signal,
    /// How long a program that is to end may take for it.
    pub grace: Duration,
    /// How much of its time an interruption may cost; none where the program alone decides when it saves.
    /// Of use with a store, on the first worker that brings checkpoints there.
    pub interval: Option<Duration>,
}
