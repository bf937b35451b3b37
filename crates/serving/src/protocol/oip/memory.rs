//! The shared memory extensions. CUDA memory cannot be registered, so its list is always empty.

use http::StatusCode;

use super::repository::{done, read_members};
use crate::error::InferError;
use crate::http::payload::{Answer, json};
use crate::http::route::Call;
use crate::protocol::json::Writer;
use crate::shared_memory::RegionInfo;

/// `GET /v2/systemsharedmemory[/region/{region}]/status`.
pub(super) fn status(call: &Call) -> Result<Answer, InferError> {
    let regions = call.app.shared_memory.status(region(call))?;
    let mut writer = Writer::default();
    writer.begin_array();
    for region in regions {
        writer.begin_object();
        writer.key("name");
        writer.string(&region.name);
        writer.key("key");
        writer.string(&region.key);
        writer.key("offset");
        writer.integer(region.offset);
        writer.key("byte_size");
        writer.integer(region.byte_size);
        writer.end_object();
    }
    writer.end_array();
    Ok(json(StatusCode::OK, writer.finish()))
}

/// `POST /v2/systemsharedmemory/region/{region}/register`.
pub(super) fn register(call: &Call) -> Result<Answer, InferError> {
    let (mut key, mut offset, mut byte_size) = (None, 0, None);
    read_members(&call.body, |reader, member| {
        match member {
            "key" => key = Some(reader.string()?.into_owned()),
            "offset" => offset = reader.unsigned()?,
            "byte_size" => byte_size = Some(reader.unsigned()?),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let name = call.parameter("region").to_owned();
    let missing = |member: &str| {
        InferError::Invalid(format!(
            "Unable to register shared memory region '{name}': the request has no '{member}'"
        ))
    };
    let key = key.ok_or_else(|| missing("key"))?;
    let byte_size = byte_size.ok_or_else(|| missing("byte_size"))?;
    Ok(done(call.app.shared_memory.register(RegionInfo { name, key, offset, byte_size })))
}

/// `POST /v2/systemsharedmemory[/region/{region}]/unregister`.
pub(super) fn unregister(call: &Call) -> Answer {
    call.app.shared_memory.unregister(region(call));
    done(Ok(()))
}

/// `GET /v2/cudasharedmemory[/region/{region}]/status`.
pub(super) fn cuda_status(call: &Call) -> Result<Answer, InferError> {
    match region(call) {
        None => Ok(json(StatusCode::OK, "[]")),
        Some(name) => {
            Err(InferError::NotFound(format!("Unable to find cuda shared memory region: '{name}'")))
        }
    }
}

/// `POST /v2/cudasharedmemory/region/{region}/register`.
pub(super) fn cuda_register(call: &Call) -> Result<Answer, InferError> {
    Err(InferError::Unsupported(format!(
        "failed to register CUDA shared memory region: '{}', this server shares system memory only",
        call.parameter("region")
    )))
}

/// `POST /v2/cudasharedmemory[/region/{region}]/unregister`: all are unregistered already, and
/// clients call this to clean up.
pub(super) fn cuda_unregister(_: &Call) -> Answer {
    done(Ok(()))
}

fn region(call: &Call) -> Option<&str> {
    Some(call.parameter("region")).filter(|name| !name.is_empty())
}
