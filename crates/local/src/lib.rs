//! The process back end of `trainyard up`: plans become child processes of this machine.
//!
//! In: targets (model files, folders, manifests) and what a person asks for over a Unix socket. Out:
//! replicas that run, a gateway that routes to them, and a history in SQLite. What to do is decided
//! by `control` and by the pure parts here (`fleet` above all); the rest carries it out. It reads
//! plans, never resources, and knows nothing of model formats or inference: a replica is a program
//! with a port and probes.
//!
//! In reading order: `state_dir` and `history` (what outlives a supervisor), `target` (what to run),
//! `replica` (one process), `fleet` (decisions about many), `job` (a worker of a job), `supervisor` (carries them out), `socket`
//! and `status` (what commands see).

pub mod example;
mod fleet;
pub mod history;
mod job;
mod machine;
mod replica;
mod secret;
pub mod socket;
pub mod state_dir;
pub mod status;
pub mod supervisor;
pub mod target;

pub use secret::{Entries, Secret};
pub use state_dir::StateDir;
pub use supervisor::{
    Ended, FetchError, FetchRequest, Inherited, ModelSource, Options, Progress, StartError,
    Supervisor, clean_up, detach,
};
