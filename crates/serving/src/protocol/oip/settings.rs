//! What the server says of itself: extensions, and the trace and log settings.
//!
//! Trace and log settings can be read, so that clients that look before they change something work;
//! they are fixed when the process starts (`OTEL_*` and `RUST_LOG`), so changing one is refused
//! rather than accepted without effect.

use tracing::level_filters::LevelFilter;

use crate::error::InferError;

/// Extensions of the protocol that are served, by the names clients look for.
pub(crate) const EXTENSIONS: [&str; 9] = [
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

/// The trace settings that hold.
pub(crate) const TRACE: [(&str, &str); 6] = [
    ("trace_level", "OFF"),
    ("trace_rate", "1000"),
    ("trace_count", "-1"),
    ("log_frequency", "0"),
    ("trace_file", ""),
    ("trace_mode", "opentelemetry"),
];

/// A log setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogValue {
    Bool(bool),
    Number(u64),
    Text(String),
}

/// The log settings that hold.
pub(crate) fn log() -> [(&'static str, LogValue); 6] {
    let enabled = LevelFilter::current();
    let level = |level: tracing::Level| LogValue::Bool(enabled >= level);
    let verbose = u64::from(enabled >= tracing::Level::DEBUG);
    [
        ("log_file", LogValue::Text(String::new())),
        ("log_info", level(tracing::Level::INFO)),
        ("log_warning", level(tracing::Level::WARN)),
        ("log_error", level(tracing::Level::ERROR)),
        ("log_verbose_level", LogValue::Number(verbose)),
        ("log_format", LogValue::Text("default".to_owned())),
    ]
}

/// Refuses to change a trace setting. No value at all asks for the default, which is what holds.
pub(crate) fn change_trace(key: &str, wanted: &[String]) -> Result<(), InferError> {
    let Some((_, value)) = TRACE.into_iter().find(|(known, _)| *known == key) else {
        return Err(InferError::Invalid(format!("unknown trace setting '{key}'")));
    };
    if wanted.is_empty() || wanted == [value] {
        return Ok(());
    }
    Err(fixed("trace", key, "the OTEL_* variables"))
}

/// Refuses to change a log setting.
pub(crate) fn change_log(key: &str, wanted: Option<&LogValue>) -> Result<(), InferError> {
    let Some((_, value)) = log().into_iter().find(|(known, _)| *known == key) else {
        return Err(InferError::Invalid(format!("unknown log setting '{key}'")));
    };
    if wanted.is_none_or(|wanted| *wanted == value) {
        return Ok(());
    }
    Err(fixed("log", key, "RUST_LOG"))
}

fn fixed(kind: &str, key: &str, place: &str) -> InferError {
    InferError::Unsupported(format!(
        "the {kind} setting '{key}' is fixed when the server starts: set {place} and restart it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_may_be_set_again_and_nothing_else() {
        let text = |text: &str| vec![text.to_owned()];
        change_trace("trace_rate", &[]).expect("the default");
        change_trace("trace_rate", &text("1000")).expect("the same");
        let error = change_trace("trace_rate", &text("5")).expect_err("fixed").to_string();
        assert!(error.contains("OTEL_*"), "{error}");
        change_trace("trace_speed", &[]).expect_err("unknown");

        change_log("log_file", Some(&LogValue::Text(String::new()))).expect("the same");
        change_log("log_file", None).expect("the default");
        let error = change_log("log_file", Some(&LogValue::Text("x".to_owned())));
        assert!(error.expect_err("fixed").to_string().contains("RUST_LOG"));
        change_log("log_speed", None).expect_err("unknown");
    }
}
