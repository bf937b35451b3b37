//! The trace and log settings over REST.

use http::StatusCode;

use super::repository::read_members;
use super::settings::{self, LogValue};
use crate::error::InferError;
use crate::http::payload::{Answer, json};
use crate::http::route::Call;
use crate::protocol::json::{JsonError, Kind, Reader, Value, Writer};
use crate::request::VersionChoice;

/// `GET` and `POST /v2[/models/{model}]/trace/setting`.
pub(super) fn trace(call: &Call) -> Result<Answer, InferError> {
    let model = call.parameter("model");
    if !model.is_empty() {
        call.app.server.metadata(model, &VersionChoice::Latest)?;
    }
    let mut wanted = Vec::new();
    read_members(&call.body, |reader, key| {
        wanted.push((key.to_owned(), read_texts(reader)?));
        Ok(())
    })?;
    for (key, values) in &wanted {
        settings::change_trace(key, values)?;
    }

    let mut writer = Writer::default();
    writer.begin_object();
    for (key, value) in settings::TRACE {
        writer.key(key);
        // The one setting that can have several values.
        if key == "trace_level" {
            writer.begin_array();
            writer.string(value);
            writer.end_array();
        } else {
            writer.string(value);
        }
    }
    writer.end_object();
    Ok(json(StatusCode::OK, writer.finish()))
}

/// `GET` and `POST /v2/logging`.
pub(super) fn log(call: &Call) -> Result<Answer, InferError> {
    let mut wanted = Vec::new();
    read_members(&call.body, |reader, key| {
        wanted.push((key.to_owned(), read_log_value(reader)?));
        Ok(())
    })?;
    for (key, value) in &wanted {
        settings::change_log(key, value.as_ref())?;
    }

    let mut writer = Writer::default();
    writer.begin_object();
    for (key, value) in settings::log() {
        writer.key(key);
        match value {
            LogValue::Bool(value) => writer.bool(value),
            LogValue::Number(value) => writer.integer(value),
            LogValue::Text(value) => writer.string(&value),
        }
    }
    writer.end_object();
    Ok(json(StatusCode::OK, writer.finish()))
}

/// Reads null (none), a text or number (one), or an array of them.
fn read_texts(reader: &mut Reader<'_>) -> Result<Vec<String>, JsonError> {
    let start = reader.offset();
    let text = |value: Value<'_>| match value {
        Value::String(text) => Some(text.into_owned()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    let texts = match Value::read(reader)? {
        Value::Null => Some(Vec::new()),
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => text(value).map(|text| vec![text]),
    };
    texts.ok_or_else(|| JsonError::new(start, "expected null, a string or an array of strings"))
}

fn read_log_value(reader: &mut Reader<'_>) -> Result<Option<LogValue>, JsonError> {
    Ok(match reader.peek()? {
        Kind::Null => {
            reader.null()?;
            None
        }
        Kind::Bool => Some(LogValue::Bool(reader.bool()?)),
        Kind::String => Some(LogValue::Text(reader.string()?.into_owned())),
        _ => Some(LogValue::Number(reader.unsigned()?)),
    })
}
