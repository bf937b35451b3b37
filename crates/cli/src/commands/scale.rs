//! `trainyard scale`.

use std::process::ExitCode;

use clap::Args;
use trainyard_local::socket::Request;

use super::supervisor::State;

/// Set how many replicas a service has, until its manifest's `scaling` changes
#[derive(Args)]
pub(crate) struct Scale {
    /// The service
    name: String,
    /// So many replicas; 0 stops them until the next request
    #[arg(required_unless_present_all = ["min", "max"], conflicts_with_all = ["min", "max"])]
    replicas: Option<u32>,
    /// Never fewer replicas
    #[arg(long, requires = "max")]
    min: Option<u32>,
    /// Never more replicas
    #[arg(long, requires = "min")]
    max: Option<u32>,
    #[command(flatten)]
    state: State,
}

impl Scale {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let min = self.replicas.or(self.min).unwrap_or_default();
        let max = self.replicas.or(self.max).unwrap_or_default();
        self.state.order(&Request::Scale { service: self.name, min, max })?;
        Ok(ExitCode::SUCCESS)
    }
}
