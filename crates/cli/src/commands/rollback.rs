//! `trainyard rollback`.

use std::process::ExitCode;

use clap::Args;
use trainyard_local::socket::Request;

use super::supervisor::State;

/// Go back to the revision before, replica by replica and without a failed request
#[derive(Args)]
pub(crate) struct Rollback {
    /// The service
    name: String,
    /// Go to this revision instead
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    #[command(flatten)]
    state: State,
}

impl Rollback {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        self.state.order(&Request::Rollback { service: self.name, to: self.to })?;
        Ok(ExitCode::SUCCESS)
    }
}
