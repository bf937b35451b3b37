//! What commands that run on and on have in common: their logs, and their threads.

use clap::ValueEnum;
use miette::{Context, IntoDiagnostic};
use tokio::runtime::Runtime;
use trainyard_telemetry::{Guard, LogFormat, Settings};

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// Text on a terminal, JSON otherwise
    Auto,
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Auto => Self::Auto,
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// Sets up telemetry, until the guard is dropped, and a runtime with as many workers as the CPU limit
/// allows, not as the host has cores. `filter` is in force where `RUST_LOG` is not.
pub(crate) fn start(
    name: String,
    format: Format,
    filter: &'static str,
) -> miette::Result<(Guard, Runtime)> {
    let guard = trainyard_telemetry::init(&Settings {
        service_name: name,
        service_version: env!("CARGO_PKG_VERSION").to_owned(),
        format: format.into(),
        default_filter: filter,
    })
    .into_diagnostic()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .into_diagnostic()
        .wrap_err("cannot start the runtime")?;
    Ok((guard, runtime))
}
