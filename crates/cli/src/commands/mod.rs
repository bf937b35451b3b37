//! One file a subcommand; adding one is a module, a variant and a match arm here.

mod down;
mod engine;
mod events;
mod fetching;
mod gateway;
mod inspect;
mod log_format;
mod logs;
mod predict;
mod restart;
mod rollback;
mod scale;
mod serve;
mod status;
mod supervisor;
mod time;
mod up;

use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Up(up::Up),
    Status(status::Status),
    Logs(logs::Logs),
    Events(events::Events),
    Scale(scale::Scale),
    Rollback(rollback::Rollback),
    Restart(restart::Restart),
    Down(down::Down),
    Serve(serve::Serve),
    Gateway(gateway::Gateway),
    Predict(predict::Predict),
    Inspect(inspect::Inspect),
    Engine(engine::Engine),
}

impl Command {
    /// Runs the command. Exit code 0 is fine, 1 means findings, 2 (an error) that it could not run.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self {
            Self::Up(command) => command.run(),
            Self::Status(command) => command.run(),
            Self::Logs(command) => command.run(),
            Self::Events(command) => command.run(),
            Self::Scale(command) => command.run(),
            Self::Rollback(command) => command.run(),
            Self::Restart(command) => command.run(),
            Self::Down(command) => command.run(),
            Self::Serve(command) => command.run(),
            Self::Gateway(command) => command.run(),
            Self::Predict(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Engine(command) => command.run(),
        }
    }
}
