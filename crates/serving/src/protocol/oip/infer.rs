//! `POST …/infer`.

use http::StatusCode;

use super::decode::{self, Decoded, Target};
use super::encode::{self, Form};
use super::{failure, headers, raw_body};
use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::Call;
use crate::protocol::call;
use crate::protocol::offload::offload;
use crate::request::VersionChoice;

/// Decodes, runs and encodes one request.
pub(super) async fn infer(call: Call) -> Answer {
    run(call).await.unwrap_or_else(|error| failure(&error))
}

/// Text generation needs a tokenizer and a loop around the model, which other servers bring.
pub(super) fn generate(call: &Call) -> Result<Answer, InferError> {
    let model = call.parameter("model");
    call.app.server.metadata(model, &version(call)?)?;
    Err(InferError::Unsupported(format!(
        "model '{model}' does not generate text: send tensors to /v2/models/{model}/infer"
    )))
}

/// The version that the path names. Versions are decimal; what is not names nothing.
pub(super) fn version(call: &Call) -> Result<VersionChoice, InferError> {
    let text = call.parameter("version");
    if text.is_empty() {
        return Ok(VersionChoice::Latest);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.map(VersionChoice::Number).ok_or_else(not_found)
}

/// The path fits no route of Triton's grammar after all.
pub(super) fn not_found() -> InferError {
    InferError::NotFound(StatusCode::NOT_FOUND.canonical_reason().unwrap_or_default().to_owned())
}

async fn run(mut call: Call) -> Result<Answer, InferError> {
    let version = version(&call)?;
    let target = Target { model: call.take_parameter("model"), version, deadline: call.deadline };
    let Call { app, head, body, .. } = call;
    let (server, shared_memory) = (&app.server, &app.shared_memory);
    let json_length = headers::json_length(&head.headers, body.len())?;
    if json_length == Some(0) {
        let metadata = server.metadata(&target.model, &target.version)?;
        let response = call::infer(server, raw_body::decode(&body, target, &metadata)?).await?;
        let form = Form { id: None, outputs: &[], binary: true };
        return encode::encode(&response, &form, server, shared_memory);
    }
    let json_bytes = json_length.unwrap_or(body.len());
    let regions = shared_memory.clone();
    // Tensors hold on to the body as far as they need it.
    let decode = move || decode::decode(&body, json_length, target, &regions);
    let Decoded { request, id, outputs, binary } = offload(json_bytes, decode).await?;
    let response = call::infer(server, request).await?;
    let json_bytes = encode::json_bytes(&response, &outputs, binary);
    offload(json_bytes, move || {
        let form = Form { id: id.as_deref(), outputs: &outputs, binary };
        encode::encode(&response, &form, &app.server, &app.shared_memory)
    })
    .await
}
