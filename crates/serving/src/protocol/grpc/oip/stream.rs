//! `ModelStreamInfer`: many requests on one stream.

use std::pin::Pin;
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use tonic::{Status, Streaming};

use super::super::inference::infer_parameter::ParameterChoice;
use super::super::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use super::service::InferenceService;

/// Requests of one stream that run at a time. At this many the stream is not read further, which
/// the client sees as HTTP/2 flow control; other streams are not affected.
const IN_FLIGHT: usize = 64;

pub(super) type ResponseStream =
    Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// Answers requests as they finish, which need not be the order they came in: the id tells which is
/// which. A request that fails is answered with its message and leaves the stream open; dropping
/// the stream cancels what is in flight.
pub(super) fn responses(
    service: InferenceService,
    requests: Streaming<ModelInferRequest>,
    deadline: Option<Instant>,
) -> ResponseStream {
    let answers = requests.map(move |request| answer(service.clone(), request, deadline));
    Box::pin(answers.buffer_unordered(IN_FLIGHT))
}

async fn answer(
    service: InferenceService,
    request: Result<ModelInferRequest, Status>,
    deadline: Option<Instant>,
) -> Result<ModelStreamInferResponse, Status> {
    // A message that is not a request (or a broken connection) ends the stream.
    let request = request?;
    let id = request.id.clone();
    let model_name = request.model_name.clone();
    let model_version = request.model_version.clone();
    let mut answer = match service.infer(request, deadline).await {
        Ok((response, _)) => ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(response),
        },
        Err(error) => ModelStreamInferResponse {
            error_message: error.to_string(),
            infer_response: Some(ModelInferResponse {
                model_name,
                model_version,
                id,
                ..Default::default()
            }),
        },
    };
    if let Some(response) = &mut answer.infer_response {
        // Each request has one answer, so each answer is the last.
        let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
        response.parameters.insert("triton_final_response".to_owned(), last);
    }
    Ok(answer)
}
