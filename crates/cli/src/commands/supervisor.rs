//! How commands reach the supervisor of a state folder.

use std::future::Future;
use std::path::PathBuf;

use clap::Args;
use miette::{IntoDiagnostic, miette};
use trainyard_local::StateDir;
use trainyard_local::socket::{Client, ClientError, Reply, Request};
use trainyard_local::status::Status;

use crate::print::print_line;

/// Which supervisor
#[derive(Args, Clone)]
pub(crate) struct State {
    /// The folder with the supervisor's state
    #[arg(long = "state-dir", value_name = "FOLDER", default_value = ".trainyard")]
    #[arg(env = "TRAINYARD_STATE_DIR")]
    folder: PathBuf,
}

impl State {
    pub(crate) fn of(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub(crate) fn open(&self) -> miette::Result<StateDir> {
        StateDir::new(&self.folder).into_diagnostic()
    }

    /// Asks the supervisor, and prints what it says it has done.
    pub(crate) fn order(&self, request: &Request) -> miette::Result<()> {
        print_line(&block_on(self.do_it(request))??)
    }

    /// Asks the supervisor; what it says it has done.
    pub(crate) async fn do_it(&self, request: &Request) -> miette::Result<String> {
        let state = self.open()?;
        match Client::ask(&state.socket(), request).await {
            Ok(Reply::Done { message }) => Ok(message),
            Ok(other) => Err(miette!("the supervisor answers something else: {other:?}")),
            Err(error) => Err(explain(error)),
        }
    }

    /// What is; none if no supervisor runs.
    pub(crate) async fn status(&self) -> miette::Result<Option<Status>> {
        let state = self.open()?;
        match Client::ask(&state.socket(), &Request::Status).await {
            Ok(Reply::Status(status)) => Ok(Some(*status)),
            Ok(other) => Err(miette!("the supervisor answers something else: {other:?}")),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(explain(error)),
        }
    }
}

/// An error of the supervisor's socket, with what to do about it.
pub(crate) fn explain(error: ClientError) -> miette::Report {
    let help = match &error {
        ClientError::NotRunning { .. } => {
            "start one with `trainyard up TARGET`, or name its state folder with --state-dir; \
             `-n NAMESPACE` or `--context NAME` asks a cluster instead"
        }
        _ => return Err::<(), _>(error).into_diagnostic().expect_err("it is an error"),
    };
    miette!(help = help, "{error}")
}

/// Runs one conversation to its end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> miette::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    Ok(runtime.block_on(work))
}
