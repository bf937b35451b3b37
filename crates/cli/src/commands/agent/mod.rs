//! `trainyard agent`: what runs on a node, and in a training worker.

mod install;
mod mpi;
mod probe;
mod rsh;
mod run;
mod termination;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Look at a node for the doctor (--probe), or be the first process of a training worker
/// (run), in any image (install)
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Agent {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    probe: probe::Probe,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Install(install::Install),
    // For launchers, which agents tell of it.
    #[command(hide = true)]
    Rsh(rsh::Rsh),
}

impl Agent {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Some(Command::Run(run)) => run.run(),
            Some(Command::Install(install)) => install.run(),
            Some(Command::Rsh(rsh)) => rsh.run(),
            None => self.probe.run(),
        }
    }
}
