//! `trainyard crds`.

use std::process::ExitCode;

use clap::Args;

use crate::print::print;
use crate::yaml::documents;

/// Print the definitions that make a cluster know Trainyard's resources
#[derive(Args)]
pub(crate) struct Crds {}

impl Crds {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        print(documents(trainyard_api::crds().iter())?.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
