//! The `trainyard` binary: parses arguments, calls a library, prints.

mod commands;

use std::process::ExitCode;

use clap::Parser;

/// The ML platform in one binary: serve, train and share GPUs, on a laptop or on Kubernetes
#[derive(Parser)]
#[command(name = "trainyard", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(code) => code,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::from(2)
        }
    }
}
