//! The `trainyard` binary: parses arguments, calls a library, prints.

mod commands;
mod failure;
mod print;
mod size;
mod table;
mod yaml;

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
    // The one TLS provider of the process; nothing before this line could have installed another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command.run() {
        Ok(code) => code,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::from(2)
        }
    }
}

#[test]
fn arguments_are_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
