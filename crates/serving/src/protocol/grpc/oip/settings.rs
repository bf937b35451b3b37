//! Trace and log settings as messages.

use super::super::inference::log_settings_request::setting_value::ParameterChoice as Wanted;
use super::super::inference::log_settings_response::{
    SettingValue as LogSetting, setting_value::ParameterChoice as LogChoice,
};
use super::super::inference::trace_setting_response::SettingValue as TraceSetting;
use super::super::inference::{
    LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse,
};
use crate::error::InferError;
use crate::protocol::oip::settings::{self, LogValue};

/// Reads the trace settings; a request that changes one is refused.
pub(super) fn trace(request: TraceSettingRequest) -> Result<TraceSettingResponse, InferError> {
    for (key, wanted) in request.settings {
        settings::change_trace(&key, &wanted.value)?;
    }
    let setting = |(key, value): (&str, &str)| {
        (key.to_owned(), TraceSetting { value: vec![value.to_owned()] })
    };
    Ok(TraceSettingResponse { settings: settings::TRACE.map(setting).into() })
}

/// Reads the log settings; a request that changes one is refused.
pub(super) fn log(request: LogSettingsRequest) -> Result<LogSettingsResponse, InferError> {
    for (key, wanted) in request.settings {
        let wanted = wanted.parameter_choice.map(|choice| match choice {
            Wanted::BoolParam(value) => LogValue::Bool(value),
            Wanted::Uint32Param(value) => LogValue::Number(value.into()),
            Wanted::StringParam(value) => LogValue::Text(value),
        });
        settings::change_log(&key, wanted.as_ref())?;
    }
    let setting = |(key, value): (&str, LogValue)| {
        let choice = match value {
            LogValue::Bool(value) => LogChoice::BoolParam(value),
            LogValue::Number(value) => {
                LogChoice::Uint32Param(u32::try_from(value).unwrap_or(u32::MAX))
            }
            LogValue::Text(value) => LogChoice::StringParam(value),
        };
        (key.to_owned(), LogSetting { parameter_choice: Some(choice) })
    };
    Ok(LogSettingsResponse { settings: settings::log().map(setting).into() })
}
