//! Log lines on standard error.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::init::TelemetryError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    Text,
    /// One object a line, fields at the top level.
    Json,
}

pub(crate) fn layer<S>(
    format: LogFormat,
    default_filter: &str,
) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = filter(if asked.is_empty() { default_filter } else { &asked })?;
    let is_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(if is_json(format, is_terminal) {
        lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    } else {
        let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        lines.with_ansi(colours).with_filter(filter).boxed()
    })
}

fn is_json(format: LogFormat, is_terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

fn filter(value: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(value)
        .map_err(|source| TelemetryError::Filter { value: value.to_owned(), source })
}

#[test]
fn formats_and_filters() {
    assert!(is_json(LogFormat::Auto, false) && !is_json(LogFormat::Auto, true));
    assert!(is_json(LogFormat::Json, true) && !is_json(LogFormat::Text, false));
    assert_eq!(filter("").unwrap().to_string(), "info");
    assert_eq!(filter("warn,hyper=debug").unwrap().to_string(), "hyper=debug,warn");
    let error = filter("hyper=louder").unwrap_err().to_string();
    assert!(error.contains("`hyper=louder`"), "{error}");
}
