//! `trainyard restart`.

use std::process::ExitCode;

use clap::Args;
use miette::IntoDiagnostic;
use trainyard_local::socket::Request;

use super::supervisor::State;

/// Replace a service's replicas one after the other, or the gateway, without a failed request
#[derive(Args)]
pub(crate) struct Restart {
    /// The service
    #[arg(required_unless_present = "gateway")]
    name: Option<String>,
    /// Hand the gateway's port and everything else over to a new supervisor that runs this program
    #[arg(long, conflicts_with = "name")]
    gateway: bool,
    #[command(flatten)]
    state: State,
}

impl Restart {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let request = match self.name {
            Some(service) => Request::Restart { service },
            None => Request::Handover { exe: std::env::current_exe().into_diagnostic()? },
        };
        self.state.order(&request)?;
        Ok(ExitCode::SUCCESS)
    }
}
