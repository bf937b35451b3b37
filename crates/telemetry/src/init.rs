//! Setting everything up, once, at the start of `main`.

use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::logs::{self, LogFormat};
use crate::traces::{self, Export};

/// Longest time that the end of the process waits for a collector.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// What the program says about itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `service.name` of its spans, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say
    /// otherwise.
    pub service_name: String,
    /// `service.version` of its spans.
    pub service_version: String,
    pub format: LogFormat,
    /// What is logged where `RUST_LOG` says nothing, in its syntax, such as `info`.
    pub default_filter: &'static str,
}

/// Why logs or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("RUST_LOG is `{value}`, which cannot be read as a filter such as `info,hyper=warn`")]
    Filter { value: String, source: tracing_subscriber::filter::ParseError },
    #[error("spans cannot be exported with these OTEL_* variables: {reason}")]
    Export { reason: String },
    #[error("logs are set up already")]
    Twice { source: tracing_subscriber::util::TryInitError },
}

/// Keeps the exporter. Dropping it sends the spans that wait, within 3 seconds.
#[must_use = "spans that wait are lost when the process ends before this is dropped"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_LIMIT)
        {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// Installs the global subscriber: logs to standard error, and spans to the collector that
/// `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` name, if any. Starts a
/// thread that exports; needs no async runtime, and must not be called from within one.
pub fn init(settings: &Settings) -> Result<Guard, TelemetryError> {
    let logs = logs::layer(settings.format, settings.default_filter)?;
    let (provider, layer, complaint) = match traces::export(settings)? {
        Export::Off => (None, None, None),
        Export::Unsupported(complaint) => (None, None, Some(complaint)),
        Export::To(provider) => {
            let layer = traces::layer(&provider);
            (Some(provider), Some(layer), None)
        }
    };
    tracing_subscriber::registry()
        .with(logs)
        .with(layer)
        .try_init()
        .map_err(|source| TelemetryError::Twice { source })?;
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    if provider.is_some() {
        crate::context::enable();
    }
    Ok(Guard { provider })
}
