//! A remote shell among the workers of one job, for launchers such as mpirun that start processes on
//! other workers: each agent opens a [`door`] to run commands that the others [`call`] for.
//!
//! The first worker runs the launcher, and holds a [`leash`] to each of the others: those have no
//! program of their own, run what they are asked to, and end as the first one does. Who asks has to
//! know the [`Token`] of the job. What is said is not encrypted, as what the processes say to each
//! other is not.

mod call;
mod door;
mod leash;
mod line;
mod message;

pub use call::{CallError, Called, call};

pub(super) use door::{Ask, Following, LeaderSays, Started, open, serve};
pub(super) use leash::{Leashes, PeerSays};
pub(super) use line::{Line, read as read_line};

use std::io::{self, Write};

use super::Process;
use super::token::Token;
use message::Answer;

/// What the workers of one program are to each other.
pub struct Remote {
    pub token: Token,
    /// This worker's own host and port, where it takes commands.
    pub own: (String, u16),
    /// What commands find in their environment beside the agent's own variables.
    pub commands: Process,
    pub role: Role,
}

/// Who ends with whom.
pub enum Role {
    /// Runs the program, and takes the others with it. Their hosts and ports.
    Leads(Vec<(String, u16)>),
    /// Has no program, and ends as the first worker does.
    Follows,
}

/// Makes a command's output our own.
async fn print(output: Answer) {
    // Whoever reads it may be slow, or gone; then the command goes on all the same.
    let printed = tokio::task::spawn_blocking(move || match output {
        Answer::Out(bytes) => write(io::stdout(), &bytes),
        Answer::Err(bytes) => write(io::stderr(), &bytes),
        _ => Ok(()),
    });
    let _ = printed.await;
}

fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
