//! All workers of one attempt, and what each process is told of the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trainyard_api::training_job::{Framework, Launcher};

use super::{jax, mpi, pytorch, tensorflow};

/// The variable of an agent's environment that holds its [`Gang`] as JSON.
pub const GANG: &str = "TRAINYARD_GANG";

/// The workers of one attempt, in the order of their index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gang {
    pub job: String,
    /// Counts from 1.
    pub attempt: u32,
    pub framework: Framework,
    pub launcher: Launcher,
    /// Of each worker.
    pub processes: u32,
    pub workers: Vec<Address>,
    /// The network interface that collectives use; none where they find it by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// Where a worker can be reached by the others. The port is for the framework's own use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why an agent cannot tell its processes of the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GangError {
    #[error("`{GANG}` is not understood: {reason}")]
    NotUnderstood { reason: String },
    #[error("there is no worker {index}: `{GANG}` has {workers} of them, counted from 0")]
    NoSuchWorker { index: u32, workers: usize },
    #[error("`{GANG}` has no processes")]
    NoProcesses,
}

/// One process that an agent starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its place among all that agents start.
    pub rank: u32,
    /// What it finds in its environment, whatever the manifest says.
    pub variables: BTreeMap<String, String>,
    /// What it finds there unless the manifest says otherwise.
    pub defaults: BTreeMap<String, String>,
}

/// How variables begin that say where data is.
pub(super) const DATA: &str = "TRAINYARD_DATA_";

/// Variables that every process gets.
const OWN: [&str; 8] = [
    "TRAINYARD_JOB",
    "TRAINYARD_ATTEMPT",
    "TRAINYARD_WORKER",
    "TRAINYARD_WORKERS",
    "TRAINYARD_HOSTS",
    "TRAINYARD_RANK",
    "TRAINYARD_LOCAL_RANK",
    "TRAINYARD_WORLD_SIZE",
];

/// Whether a manifest may not set a variable, since the processes of that framework find each other
/// by it.
pub(super) fn is_reserved(framework: Framework, name: &str) -> bool {
    let of_framework: &[&str] = match framework {
        Framework::PyTorch | Framework::Generic => &pytorch::RESERVED,
        Framework::TensorFlow => &tensorflow::RESERVED,
        Framework::Jax => &jax::RESERVED,
        // Its launcher tells the processes of each other, each in a way of its own.
        Framework::Mpi => &[],
    };
    name == GANG || OWN.contains(&name) || name.starts_with(DATA) || of_framework.contains(&name)
}

impl Gang {
    /// As the value of [`GANG`].
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }

    /// Reads the value of [`GANG`].
    pub fn parse(text: &str) -> Result<Self, GangError> {
        let gang: Self = serde_json::from_str(text)
            .map_err(|error| GangError::NotUnderstood { reason: error.to_string() })?;
        if gang.processes == 0 { Err(GangError::NoProcesses) } else { Ok(gang) }
    }

    /// Processes that each agent starts: one where that starts the others itself.
    fn started(&self) -> u32 {
        let starts_others = self.framework == Framework::Mpi || self.launcher == Launcher::Torchrun;
        if starts_others { 1 } else { self.processes }
    }

    /// The number of workers.
    pub(super) fn size(&self) -> u32 {
        u32::try_from(self.workers.len()).unwrap_or(u32::MAX)
    }

    /// The first worker, where the others meet.
    pub(super) fn first(&self) -> Option<&Address> {
        self.workers.first()
    }

    /// The processes that the agent of one worker starts.
    pub fn processes(&self, index: u32) -> Result<Vec<Process>, GangError> {
        if index >= self.size() {
            return Err(GangError::NoSuchWorker { index, workers: self.workers.len() });
        }
        let started = self.started();
        Ok((0..started)
            .map(|local| Process {
                rank: index.saturating_mul(started).saturating_add(local),
                variables: self.variables(index, local, started),
                defaults: self.defaults(),
            })
            .collect())
    }

    fn variables(&self, index: u32, local: u32, started: u32) -> BTreeMap<String, String> {
        let place = Place {
            worker: index,
            workers: self.size(),
            local,
            processes: started,
            rank: index.saturating_mul(started).saturating_add(local),
            world: self.size().saturating_mul(started),
        };
        let hosts: Vec<String> = self.workers.iter().map(Address::to_string).collect();
        let own = [
            self.job.clone(),
            self.attempt.to_string(),
            place.worker.to_string(),
            place.workers.to_string(),
            hosts.join(","),
            place.rank.to_string(),
            place.local.to_string(),
            place.world.to_string(),
        ];
        let mut variables: BTreeMap<String, String> =
            OWN.into_iter().map(str::to_owned).zip(own).collect();
        variables.extend(match self.framework {
            Framework::PyTorch | Framework::Generic => pytorch::variables(self, &place),
            Framework::TensorFlow => tensorflow::variables(self, &place),
            Framework::Jax => jax::variables(self, &place),
            Framework::Mpi => BTreeMap::new(),
        });
        variables
    }

    fn defaults(&self) -> BTreeMap<String, String> {
        let mut defaults = texts([
            // What is printed is seen at once: to a pipe, Python would keep it back.
            ("PYTHONUNBUFFERED", "1".to_owned()),
            // A process that hangs shows where, when it is ended by SIGABRT.
            ("PYTHONFAULTHANDLER", "1".to_owned()),
        ]);
        defaults.extend(match self.framework {
            Framework::PyTorch => pytorch::defaults(self),
            Framework::Mpi => mpi::defaults(),
            Framework::TensorFlow | Framework::Jax | Framework::Generic => BTreeMap::new(),
        });
        defaults
    }
}

/// Where a process stands among the others.
pub(super) struct Place {
    pub(super) worker: u32,
    pub(super) workers: u32,
    /// Among those of its worker.
    pub(super) local: u32,
    /// Of its worker.
    pub(super) processes: u32,
    pub(super) rank: u32,
    pub(super) world: u32,
}

/// Pairs as owned text.
pub(super) fn texts<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
