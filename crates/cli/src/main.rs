//! The `trainyard` binary: parses arguments, calls a library, prints.

mod commands;
mod failure;
mod size;
mod table;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use trainyard_telemetry::{LogFormat, Settings};

use crate::failure::failure;

/// The ML platform in one binary: serve, train and share GPUs, on a laptop or on Kubernetes
#[derive(Parser)]
#[command(name = "trainyard", version, propagate_version = true)]
struct Cli {
    /// How log lines look; `auto` is text on a terminal and JSON otherwise
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        display_order = 900,
        env = "TRAINYARD_LOG_FORMAT"
    )]
    log_format: Format,
    #[command(subcommand)]
    command: commands::Command,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Auto,
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The one TLS provider of the process; this is the first line that could install one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = Settings {
        service_name: "trainyard".to_owned(),
        service_version: env!("CARGO_PKG_VERSION").to_owned(),
        format: match cli.log_format {
            Format::Auto => LogFormat::Auto,
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        },
        level: cli.command.log_level(),
    };
    // Held until the end: dropping it sends the last spans.
    let telemetry = trainyard_telemetry::init(&settings).map_err(failure);
    let result = telemetry.and_then(|guard| {
        let result = cli.command.run();
        drop(guard);
        result
    });
    match result {
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
