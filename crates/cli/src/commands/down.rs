//! `trainyard down`.

use std::process::ExitCode;

use clap::Args;
use miette::IntoDiagnostic;
use trainyard_local::clean_up;
use trainyard_local::socket::{Client, ClientError, Reply, Request};

use super::supervisor::{State, block_on, explain};

/// End services, or all of them with their supervisor, once requests in flight are answered
#[derive(Args)]
pub(crate) struct Down {
    /// Services to end; all of them, and the gateway, if none is named
    names: Vec<String>,
    /// Do not wait for requests in flight
    #[arg(long, conflicts_with = "names")]
    now: bool,
    #[command(flatten)]
    state: State,
}

impl Down {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let state = self.state.open()?;
        let everything = self.names.is_empty();
        let request = Request::Down { services: self.names, hurry: self.now };
        block_on(async {
            // Watched from before: its end is the end of everything.
            let mut watch = match Client::send(&state.socket(), &Request::Watch).await {
                Ok(watch) => watch,
                Err(ClientError::NotRunning { .. }) if everything => {
                    let left = clean_up(&state).await.into_diagnostic()?;
                    match left {
                        0 => println!("nothing runs"),
                        left => println!("ended {left} processes that a supervisor had left"),
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                Err(error) => return Err(explain(error)),
            };
            match Client::ask(&state.socket(), &request).await {
                Ok(Reply::Done { message }) if !everything => println!("{message}"),
                Ok(_) => {
                    // A supervisor that ends closes its socket in the middle of whatever it says.
                    while let Ok(Some(_)) = watch.next_status().await {}
                    while state.is_locked() {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                    println!("everything has ended");
                }
                Err(error) => return Err(explain(error)),
            }
            Ok(ExitCode::SUCCESS)
        })?
    }
}
