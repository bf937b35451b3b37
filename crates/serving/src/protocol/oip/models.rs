//! Health, and metadata of the server and its models.

use http::StatusCode;

use super::infer::{not_found, version};
use super::settings::EXTENSIONS;
use crate::error::InferError;
use crate::http::payload::{Answer, json};
use crate::http::route::Call;
use crate::protocol::json::Writer;
use crate::request::VersionChoice;
use crate::signature::TensorSpec;

/// `GET /v2/health/live`. Triton answers with an empty body; KServe's client reads `live`.
pub(super) fn live(call: &Call) -> Answer {
    health("live", call.app.server.is_live())
}

/// `GET /v2/health/ready`.
pub(super) fn ready(call: &Call) -> Answer {
    health("ready", call.app.is_ready())
}

fn health(key: &str, is_so: bool) -> Answer {
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key(key);
    writer.bool(is_so);
    writer.end_object();
    let status = if is_so { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, writer.finish())
}

/// `GET /v2/models/{model}/ready`.
pub(super) fn model_ready(call: &Call) -> Result<Answer, InferError> {
    let metadata = call.app.server.metadata(call.parameter("model"), &version(call)?)?;
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("name");
    writer.string(&metadata.name);
    writer.key("ready");
    writer.bool(true);
    writer.end_object();
    Ok(json(StatusCode::OK, writer.finish()))
}

/// `GET /v2`.
pub(super) fn server(call: &Call) -> Answer {
    let engine = call.app.server.engine();
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("name");
    writer.string(&call.app.options.server_name);
    writer.key("version");
    writer.string(env!("CARGO_PKG_VERSION"));
    writer.key("extensions");
    writer.begin_array();
    EXTENSIONS.iter().for_each(|extension| writer.string(extension));
    writer.end_array();
    writer.key("engine");
    writer.begin_object();
    writer.key("name");
    writer.string(engine.name);
    writer.key("version");
    writer.string(&engine.version);
    writer.key("device");
    writer.string(&engine.device);
    writer.key("threads");
    writer.integer(engine.threads);
    writer.end_object();
    writer.end_object();
    json(StatusCode::OK, writer.finish())
}

/// `GET /v2/models`, which KServe's servers have.
pub(super) fn names(call: &Call) -> Answer {
    let mut names: Vec<String> =
        call.app.server.index().into_iter().map(|entry| entry.name).collect();
    names.dedup();
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("models");
    writer.begin_array();
    names.iter().for_each(|name| writer.string(name));
    writer.end_array();
    writer.end_object();
    json(StatusCode::OK, writer.finish())
}

/// `GET /v2/models/{model}`.
pub(super) fn model(call: &Call) -> Result<Answer, InferError> {
    let metadata = call.app.server.metadata(call.parameter("model"), &version(call)?)?;
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("name");
    writer.string(&metadata.name);
    writer.key("versions");
    writer.begin_array();
    metadata.versions.iter().for_each(|version| writer.digits_in_quotes(*version));
    writer.end_array();
    writer.key("platform");
    writer.string(metadata.platform);
    writer.key("inputs");
    write_tensors(&mut writer, &metadata.signature.inputs);
    writer.key("outputs");
    write_tensors(&mut writer, &metadata.signature.outputs);
    if !metadata.notes.is_empty() {
        writer.key("properties");
        writer.begin_object();
        for (key, note) in &metadata.notes {
            writer.key(key);
            writer.string(note);
        }
        writer.end_object();
    }
    writer.end_object();
    Ok(json(StatusCode::OK, writer.finish()))
}

fn write_tensors(writer: &mut Writer, tensors: &[TensorSpec]) {
    writer.begin_array();
    for tensor in tensors {
        writer.begin_object();
        writer.key("name");
        writer.string(&tensor.name);
        writer.key("datatype");
        writer.string(tensor.data_type.oip_name());
        writer.key("shape");
        writer.begin_array();
        for dim in &tensor.dims {
            match dim {
                Some(extent) => writer.integer(*extent),
                None => writer.integer(-1),
            }
        }
        writer.end_array();
        writer.end_object();
    }
    writer.end_array();
}

/// `GET /v2/models/{model}/config`.
pub(super) fn config(call: &Call) -> Result<Answer, InferError> {
    let model = call.parameter("model");
    let version = version(call)?;
    if version != VersionChoice::Latest {
        call.app.server.metadata(model, &version)?;
    }
    let config = call.app.server.config(model)?;
    Ok(json(StatusCode::OK, config.to_string()))
}

/// A model's name, which is the name of a folder too.
pub(super) fn folder_name(call: &Call) -> Result<&str, InferError> {
    let name = call.parameter("model");
    if name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
        return Err(InferError::Invalid(format!(
            "'{name}' is not the name of a model: expected a name without '/'"
        )));
    }
    if name.is_empty() { Err(not_found()) } else { Ok(name) }
}
