//! `trainyard rollback`.

use std::process::ExitCode;

use clap::Args;
use trainyard_local::socket::Request;

use super::output::ServiceName;
use super::place::{Intent, Place, PlaceArgs, PlaceError};
use super::supervisor::block_on;
use crate::print::print_line;

/// Go back to the revision before, replica by replica and without a failed request
#[derive(Args)]
pub(crate) struct Rollback {
    /// The service
    name: ServiceName,
    /// Go to this revision instead; in a cluster also by its number
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Rollback {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.go_back())?
    }

    async fn go_back(self) -> miette::Result<ExitCode> {
        let place = self.place.open(Intent::CHANGE).await?;
        let name = self.name.0;
        let said = match &place {
            Place::Here(here) => {
                here.find(&name)?;
                here.state.do_it(&Request::Rollback { service: name, to: self.to }).await?
            }
            Place::Cluster(console) => {
                let revision = console.rollback(&name, self.to.as_deref()).await;
                let revision = revision.map_err(PlaceError::from)?;
                format!("`{name}` goes back to revision {revision}")
            }
        };
        print_line(&said)?;
        Ok(ExitCode::SUCCESS)
    }
}
