//! `--log-format` of the long-running commands.

use clap::ValueEnum;
use trainyard_telemetry::LogFormat;

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
