//! One file a subcommand; adding one is a module, a variant and a match arm here.

mod agent;
mod checkpoints;
mod cluster_args;
mod completion;
mod crds;
mod daemon;
mod delete;
mod describe;
mod doctor;
mod down;
mod dump;
mod engine;
mod events;
mod fetch;
mod fetching;
mod gateway;
mod get;
mod gpu;
mod inspect;
mod install;
mod jobs;
mod lint;
mod logs;
mod operator;
mod output;
mod place;
mod plan;
pub(crate) mod plugin;
mod predict;
mod queue;
mod render;
mod restart;
mod rollback;
mod scale;
mod serve;
mod status;
mod supervisor;
mod time;
mod up;
mod wait;
mod which_cluster;

use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Up(up::Up),
    Status(status::Status),
    Get(get::Get),
    Describe(describe::Describe),
    Logs(logs::Logs),
    Events(events::Events),
    Wait(wait::Wait),
    Scale(scale::Scale),
    Rollback(rollback::Rollback),
    Delete(delete::Delete),
    Restart(restart::Restart),
    Down(down::Down),
    Install(install::Install),
    Uninstall(install::Uninstall),
    Render(render::Render),
    Lint(lint::Lint),
    Doctor(doctor::Doctor),
    Agent(agent::Agent),
    Crds(crds::Crds),
    Fetch(fetch::Fetch),
    Checkpoints(checkpoints::Checkpoints),
    Serve(serve::Serve),
    Gateway(gateway::Gateway),
    Gpu(gpu::Gpu),
    Plan(plan::Plan),
    Predict(predict::Predict),
    Queue(queue::Queue),
    Inspect(inspect::Inspect),
    Engine(engine::Engine),
    Operator(operator::Operator),
    Completion(completion::Completion),
}

impl Command {
    /// Runs the command. Exit code 0 is fine, 1 means findings, 2 (an error) that it could not run.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self {
            Self::Up(command) => command.run(),
            Self::Status(command) => command.run(),
            Self::Get(command) => command.run(),
            Self::Describe(command) => command.run(),
            Self::Logs(command) => command.run(),
            Self::Events(command) => command.run(),
            Self::Wait(command) => command.run(),
            Self::Scale(command) => command.run(),
            Self::Rollback(command) => command.run(),
            Self::Delete(command) => command.run(),
            Self::Restart(command) => command.run(),
            Self::Down(command) => command.run(),
            Self::Install(command) => command.run(),
            Self::Uninstall(command) => command.run(),
            Self::Render(command) => command.run(),
            Self::Lint(command) => command.run(),
            Self::Doctor(command) => command.run(),
            Self::Agent(command) => command.run(),
            Self::Crds(command) => command.run(),
            Self::Fetch(command) => command.run(),
            Self::Checkpoints(command) => command.run(),
            Self::Serve(command) => command.run(),
            Self::Gateway(command) => command.run(),
            Self::Gpu(command) => command.run(),
            Self::Plan(command) => command.run(),
            Self::Predict(command) => command.run(),
            Self::Queue(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Engine(command) => command.run(),
            Self::Operator(command) => command.run(),
            Self::Completion(command) => command.run(),
        }
    }
}
