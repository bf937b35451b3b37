//! One file a subcommand; adding one is a module, a variant and a match arm here.

mod engine;
mod inspect;
mod predict;

use std::process::ExitCode;

use tracing::Level;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Predict(predict::Predict),
    Inspect(inspect::Inspect),
    Engine(engine::Engine),
}

impl Command {
    /// Runs the command. Exit code 0 is fine, 1 means findings, 2 (an error) that it could not run.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self {
            Self::Predict(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Engine(command) => command.run(),
        }
    }

    /// What it logs by default: commands that serve tell what they do, the others only what is
    /// wrong, because their answer is what they print.
    pub(crate) fn log_level(&self) -> Level {
        match self {
            Self::Predict(_) | Self::Inspect(_) | Self::Engine(_) => Level::WARN,
        }
    }
}
