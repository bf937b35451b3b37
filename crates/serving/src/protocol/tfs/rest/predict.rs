//! `:predict`, which is KServe's v1 inference as well.

use super::answer::refusal;
use super::predict_request::{self, Form};
use super::{json, predict_response, target};
use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::Call;
use crate::protocol::offload::{json_bytes, offload};
use crate::protocol::{call, oip};
use crate::request::InferRequest;

pub(super) async fn predict(call: Call) -> Answer {
    run(call).await.unwrap_or_else(|error| refusal(&error))
}

async fn run(call: Call) -> Result<Answer, InferError> {
    let target = target(&call)?;
    let server = &call.app.server;
    let signature = server.signature(&target.model, &target.version);
    let signature = signature.map_err(|error| target.reword(error))?;
    let body = call.body.clone();
    let parse = move || predict_request::parse(&body, &signature);
    let (inputs, form) = offload(call.body.len(), parse).await?;
    let request = InferRequest {
        model: target.model.clone(),
        version: target.version.clone(),
        inputs,
        deadline: call.deadline,
        ..InferRequest::default()
    };
    let response = call::infer(server, request).await.map_err(|error| target.reword(error))?;
    let execution = response.execution;
    let outputs = response.outputs;
    let size = json_bytes(outputs.iter().map(|(_, tensor)| tensor));
    let write = move || match form {
        Form::Rows => predict_response::rows(&outputs),
        Form::Columns => Ok(predict_response::columns(&outputs)),
    };
    let mut answer = json(offload(size, write).await?);
    oip::describe(&execution, answer.headers_mut());
    Ok(answer)
}
