//! `trainyard down`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use miette::{IntoDiagnostic, miette};
use trainyard_local::clean_up;
use trainyard_local::socket::{Client, ClientError, Reply, Request};

use super::supervisor::{State, block_on, explain};
use crate::print::print_line;

/// End services and jobs, or all of them with their supervisor
///
/// Requests in flight are answered first, and jobs asked for a checkpoint. A job that is over is
/// taken off the list.
#[derive(Args)]
pub(crate) struct Down {
    /// Services and jobs to end; all of them, and the gateway, if none is named
    names: Vec<String>,
    /// Wait neither for requests in flight nor for checkpoints
    #[arg(long, conflicts_with = "names")]
    now: bool,
    #[command(flatten)]
    state: State,
}

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A supervisor that was told to hurry gives itself half of this.
const HURRIED: Duration = Duration::from_secs(10);

impl Down {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let state = self.state.open()?;
        let everything = self.names.is_empty();
        let hurry = self.now;
        let request = Request::Down { services: self.names, hurry, forget: false };
        block_on(async {
            // Watched from before: its end is the end of everything.
            let mut watch = match Client::send(&state.socket(), &Request::Watch).await {
                Ok(watch) => watch,
                Err(ClientError::NotRunning { .. }) if everything => {
                    let left = clean_up(&state, hurry).await.into_diagnostic()?;
                    match left {
                        0 => print_line("nothing runs")?,
                        left => print_line(&format!(
                            "ended {left} processes that a supervisor had left"
                        ))?,
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                Err(error) => return Err(explain(error)),
            };
            match Client::ask(&state.socket(), &request).await {
                Ok(Reply::Done { message }) if !everything => print_line(&message)?,
                Ok(_) => {
                    let ended = async {
                        // A supervisor that ends closes its socket in the middle of whatever it
                        // says.
                        while let Ok(Some(_)) = watch.next_status().await {}
                        while state.is_locked() {
                            tokio::time::sleep(LOOK_EVERY).await;
                        }
                    };
                    let patience = if hurry { HURRIED } else { Duration::MAX };
                    if tokio::time::timeout(patience, ended).await.is_err() {
                        return Err(miette!(
                            help = "kill the process, whose id `trainyard status` shows, and run `trainyard down --now` again: it ends what is left",
                            "the supervisor has not ended within {} s",
                            patience.as_secs()
                        ));
                    }
                    print_line("everything has ended")?;
                }
                Err(error) => return Err(explain(error)),
            }
            Ok(ExitCode::SUCCESS)
        })?
    }
}
