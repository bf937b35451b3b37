//! The model repository API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Response, StatusCode};

use super::load::{self, LoadParameter};
use super::models::folder_name;
use super::{failure, one_repository, state_name};
use crate::error::InferError;
use crate::http::payload::{Answer, Payload, json};
use crate::http::route::Call;
use crate::protocol::json::{JsonError, Kind, Reader, Writer};
use crate::server::VersionState;

/// `POST /v2/repository/index`. The body may be empty, which is what tritonclient sends.
pub(super) fn index(call: &Call) -> Result<Answer, InferError> {
    one_repository(call.parameter("repository"))?;
    let mut ready_only = false;
    read_members(&call.body, |reader, key| match key {
        "ready" => {
            ready_only = reader.bool()?;
            Ok(())
        }
        _ => reader.skip(),
    })?;

    let mut writer = Writer::default();
    writer.begin_array();
    for entry in call.app.server.index() {
        if ready_only && entry.state != VersionState::Ready {
            continue;
        }
        writer.begin_object();
        writer.key("name");
        writer.string(&entry.name);
        if let Some(version) = entry.version {
            writer.key("version");
            writer.digits_in_quotes(version);
        }
        writer.key("state");
        writer.string(state_name(entry.state));
        if !entry.reason.is_empty() {
            writer.key("reason");
            writer.string(&entry.reason);
        }
        writer.end_object();
    }
    writer.end_array();
    Ok(json(StatusCode::OK, writer.finish()))
}

/// `POST /v2/repository/models/{model}/load`.
pub(super) async fn load(call: Call) -> Answer {
    let load = async {
        one_repository(call.parameter("repository"))?;
        let model = folder_name(&call)?;
        let parameters = read_parameters(&call.body)?;
        let options = load::options(parameters, |parameter| match parameter {
            LoadParameter::Text(text) => STANDARD.decode(text).ok().map(Bytes::from),
            LoadParameter::Bytes(_) | LoadParameter::Other => None,
        })?;
        call.app.server.load(model, options).await
    };
    done(load.await)
}

/// `POST /v2/repository/models/{model}/unload`.
pub(super) async fn unload(call: Call) -> Answer {
    let unload = async {
        one_repository(call.parameter("repository"))?;
        let model = folder_name(&call)?;
        // `unload_dependents` concerns ensembles, which are models of other servers.
        read_members(&call.body, |reader, _| reader.skip())?;
        call.app.server.unload(model).await
    };
    done(unload.await)
}

/// Success has an empty body, as Triton's.
pub(super) fn done(result: Result<(), InferError>) -> Answer {
    match result {
        Ok(()) => Response::new(Payload::default()),
        Err(error) => failure(&error),
    }
}

/// Reads the members of the object that a body is, if it is not empty.
pub(super) fn read_members(
    body: &[u8],
    member: impl FnMut(&mut Reader<'_>, &str) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    if body.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::new(body)?;
    reader.object(member)?;
    reader.finish()
}

fn read_parameters(body: &[u8]) -> Result<Vec<(String, LoadParameter)>, JsonError> {
    let mut parameters = Vec::new();
    read_members(body, |reader, key| match key {
        "parameters" => reader.object(|reader, key| {
            let value = match reader.peek()? {
                Kind::String => LoadParameter::Text(reader.string()?.into_owned()),
                _ => {
                    reader.skip()?;
                    LoadParameter::Other
                }
            };
            parameters.push((key.to_owned(), value));
            Ok(())
        }),
        _ => reader.skip(),
    })?;
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_parameters() {
        let read = |body: &str| {
            load::options(read_parameters(body.as_bytes())?, |parameter| match parameter {
                LoadParameter::Text(text) => STANDARD.decode(text).ok().map(Bytes::from),
                _ => None,
            })
        };
        let options = read(
            r#"{"parameters":{"config":"{\"backend\":\"onnxruntime\"}","file:1/model.onnx":"aGk="}}"#,
        )
        .expect("reads");
        assert_eq!(options.config.as_deref(), Some(r#"{"backend":"onnxruntime"}"#));
        assert_eq!(options.files["1/model.onnx"], "hi");
        assert!(read("").expect("no body").config.is_none());
        assert!(read("{}").expect("no parameters").files.is_empty());
        for (body, says) in [
            (r#"{"parameters":{"config":{}}}"#, "'config', expected a string"),
            (r#"{"parameters":{"file:a":"*"}}"#, "'file:a', expected the bytes of a file"),
            (r#"{"parameters":{"speed":"1"}}"#, "unrecognized load parameter 'speed'"),
            ("{", "expected a key in quotes"),
        ] {
            let error = read(body).expect_err(body).to_string();
            assert!(error.contains(says), "{body}: {error}");
        }
    }
}
