//! The `trainyard` binary: parses arguments, calls a library, prints.

mod commands;
mod failure;
mod print;
mod relocations;
mod size;
mod table;
mod yaml;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use commands::plugin;

/// The ML platform in one binary: serve, train and share GPUs, on a laptop or on Kubernetes
#[derive(Parser)]
#[command(name = "trainyard", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    relocations::forget();
    let is_plugin = plugin::is_plugin();
    // kubectl's commands know one code of failure.
    let failed = ExitCode::from(if is_plugin { 1 } else { 2 });
    let mut command = Cli::command();
    if is_plugin {
        command = plugin::adapt(command);
    }
    let parsed = command.try_get_matches().and_then(|matches| {
        let name = matches.subcommand_name().unwrap_or_default();
        if is_plugin && plugin::is_of_this_machine(name) {
            let message = format!("`{name}` acts on this machine: run `trainyard {name}`\n");
            return Err(clap::Error::raw(clap::error::ErrorKind::InvalidSubcommand, message));
        }
        Cli::from_arg_matches(&matches)
    });
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let is_failure = error.use_stderr();
            // A reader that is gone has no use for it.
            let _ = error.print();
            return if is_failure { failed } else { ExitCode::SUCCESS };
        }
    };
    // The one TLS provider of the process; nothing before this line could have installed another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command.run() {
        Ok(code) => code,
        Err(report) => {
            eprintln!("{report:?}");
            failed
        }
    }
}

#[test]
fn arguments_are_consistent() {
    Cli::command().debug_assert();
    plugin::adapt(Cli::command()).debug_assert();
}
