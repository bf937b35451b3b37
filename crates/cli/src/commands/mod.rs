//! One file a subcommand; adding one is a module, a variant and a match arm here.

use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(crate) enum Command {}

impl Command {
    /// Runs the command. Exit code 0 is fine, 1 means findings, 2 (an error) that it could not run.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self {}
    }
}
