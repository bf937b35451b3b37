//! What the server says of itself: extensions, and the trace and log settings.
//!
//! Trace and log settings can be read, so that clients that look before they change something work;
//! they are fixed when the process starts (`OTEL_*` and `RUST_LOG`), so changing one is refused
//! rather than accepted without effect.

use std::collections::BTreeMap;

use super::super::inference::log_settings_response::{
    SettingValue as LogValue, setting_value::ParameterChoice as LogChoice,
};
use super::super::inference::trace_setting_response::SettingValue as TraceValue;
use super::super::inference::{
    LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse,
    log_settings_request,
};
use crate::error::InferError;

/// Extensions of the protocol that are served, by the names clients look for.
pub(super) const EXTENSIONS: [&str; 9] = [
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

/// Reads the trace settings; a request that changes one is refused.
pub(super) fn trace(request: TraceSettingRequest) -> Result<TraceSettingResponse, InferError> {
    let current: BTreeMap<String, TraceValue> = [
        ("trace_level", "OFF"),
        ("trace_rate", "1000"),
        ("trace_count", "-1"),
        ("log_frequency", "0"),
        ("trace_file", ""),
        ("trace_mode", "opentelemetry"),
    ]
    .map(|(key, value)| (key.to_owned(), TraceValue { value: vec![value.to_owned()] }))
    .into();
    for (key, wanted) in request.settings {
        let Some(value) = current.get(&key) else {
            return Err(InferError::Invalid(format!("unknown trace setting '{key}'")));
        };
        // An empty value asks for the default, which is what holds.
        if !wanted.value.is_empty() && wanted.value != value.value {
            return Err(fixed("trace", &key, "the OTEL_* variables"));
        }
    }
    Ok(TraceSettingResponse { settings: current })
}

/// Reads the log settings; a request that changes one is refused.
pub(super) fn log(request: LogSettingsRequest) -> Result<LogSettingsResponse, InferError> {
    let enabled = tracing::level_filters::LevelFilter::current();
    let level = |level: tracing::Level| LogChoice::BoolParam(enabled >= level);
    let verbose = u32::from(enabled >= tracing::Level::DEBUG);
    let current: BTreeMap<String, LogValue> = [
        ("log_file", LogChoice::StringParam(String::new())),
        ("log_info", level(tracing::Level::INFO)),
        ("log_warning", level(tracing::Level::WARN)),
        ("log_error", level(tracing::Level::ERROR)),
        ("log_verbose_level", LogChoice::Uint32Param(verbose)),
        ("log_format", LogChoice::StringParam("default".to_owned())),
    ]
    .map(|(key, choice)| (key.to_owned(), LogValue { parameter_choice: Some(choice) }))
    .into();
    for (key, wanted) in request.settings {
        let Some(value) = current.get(&key) else {
            return Err(InferError::Invalid(format!("unknown log setting '{key}'")));
        };
        if wanted.parameter_choice.is_some_and(|wanted| !same(&wanted, value)) {
            return Err(fixed("log", &key, "RUST_LOG"));
        }
    }
    Ok(LogSettingsResponse { settings: current })
}

fn same(wanted: &log_settings_request::setting_value::ParameterChoice, current: &LogValue) -> bool {
    use log_settings_request::setting_value::ParameterChoice as Wanted;
    match (wanted, &current.parameter_choice) {
        (Wanted::BoolParam(wanted), Some(LogChoice::BoolParam(current))) => wanted == current,
        (Wanted::Uint32Param(wanted), Some(LogChoice::Uint32Param(current))) => wanted == current,
        (Wanted::StringParam(wanted), Some(LogChoice::StringParam(current))) => wanted == current,
        _ => false,
    }
}

fn fixed(kind: &str, key: &str, place: &str) -> InferError {
    InferError::Unsupported(format!(
        "the {kind} setting '{key}' is fixed when the server starts: set {place} and restart it"
    ))
}
