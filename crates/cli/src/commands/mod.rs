//! One file a subcommand; adding one is a module, a variant and a match arm here.

mod serve;

use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Serve(serve::Serve),
}

impl Command {
    /// Runs the command. Exit code 0 is fine, 1 means findings, 2 (an error) that it could not run.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self {
            Self::Serve(serve) => serve.run(),
        }
    }
}
