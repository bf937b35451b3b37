//! TensorFlow Serving's REST interface.

mod answer;
mod examples;
mod fuzz;
mod metadata;
mod methods;
mod predict;
mod predict_request;
mod predict_response;
mod schemas;

use futures_util::future::BoxFuture;
use http::Method;

use super::model_spec::Target;
use crate::error::InferError;
use crate::http::payload::Answer;
use crate::http::route::{Call, Protocol, Route};
use crate::protocol::kserve_v1;
use crate::request::VersionChoice;

pub(crate) use answer::{json, refusal, unmatched};
pub(crate) use fuzz::fuzz;
pub(crate) use metadata::versions;

/// The routes under `/v1`: TensorFlow Serving's, and those that it shares with KServe.
pub(crate) static PROTOCOL: Protocol = Protocol {
    name: "tfs",
    prefix: "/v1/",
    routes: &[
        predict("/v1/models/{model}:predict"),
        predict("/v1/models/{model}/versions/{version}:predict"),
        predict("/v1/models/{model}/labels/{label}:predict"),
        classify("/v1/models/{model}:classify"),
        classify("/v1/models/{model}/versions/{version}:classify"),
        classify("/v1/models/{model}/labels/{label}:classify"),
        regress("/v1/models/{model}:regress"),
        regress("/v1/models/{model}/versions/{version}:regress"),
        regress("/v1/models/{model}/labels/{label}:regress"),
        get(
            "/v1/models/{model}",
            |call| Box::pin(kserve_v1::model(call)),
            "Whether a model is ready, and the states of its versions",
            schemas::MODEL,
        ),
        get(
            "/v1/models",
            |call| Box::pin(kserve_v1::models(call)),
            "Models that serve",
            schemas::MODELS,
        ),
        status("/v1/models/{model}/versions/{version}"),
        status("/v1/models/{model}/labels/{label}"),
        metadata("/v1/models/{model}/metadata"),
        metadata("/v1/models/{model}/versions/{version}/metadata"),
        metadata("/v1/models/{model}/labels/{label}/metadata"),
    ],
    ignores_case: true,
    unmatched,
    refusal,
    schemas: schemas::schemas,
};

type Handler = fn(Call) -> BoxFuture<'static, Answer>;

const fn predict(template: &'static str) -> Route {
    let summary = "Run a model on rows or columns of values";
    let handler: Handler = |call| Box::pin(predict::predict(call));
    post(template, handler, summary, schemas::PREDICT_REQUEST, schemas::PREDICT_RESPONSE)
}

const fn classify(template: &'static str) -> Route {
    let summary = "Score the classes of examples";
    let handler: Handler = |call| Box::pin(methods::classify(call));
    post(template, handler, summary, schemas::EXAMPLES_REQUEST, schemas::CLASSIFY_RESPONSE)
}

const fn regress(template: &'static str) -> Route {
    let summary = "Predict one number for each example";
    let handler: Handler = |call| Box::pin(methods::regress(call));
    post(template, handler, summary, schemas::EXAMPLES_REQUEST, schemas::REGRESS_RESPONSE)
}

const fn status(template: &'static str) -> Route {
    let summary = "State of one version of a model";
    get(template, |call| Box::pin(metadata::status(call)), summary, schemas::STATUS)
}

const fn metadata(template: &'static str) -> Route {
    let summary = "Inputs and outputs of a model";
    get(template, |call| Box::pin(metadata::metadata(call)), summary, schemas::METADATA)
}

const fn post(
    template: &'static str,
    handler: Handler,
    summary: &'static str,
    request: &'static str,
    response: &'static str,
) -> Route {
    let (request, response) = (Some(request), Some(response));
    Route { method: Method::POST, template, handler, summary, request, response }
}

const fn get(
    template: &'static str,
    handler: Handler,
    summary: &'static str,
    response: &'static str,
) -> Route {
    let response = Some(response);
    Route { method: Method::GET, template, handler, summary, request: None, response }
}

/// The model and version that a path names.
pub(crate) fn target(call: &Call) -> Result<Target, InferError> {
    let model = call.parameter("model").to_owned();
    // A method that is asked for with the wrong verb, such as `GET /v1/models/m:predict`.
    if call.head.method == Method::GET && call.head.uri.path().contains(':') {
        return Err(InferError::Invalid(answer::malformed(&call.head)));
    }
    let (version, label) = (call.parameter("version"), call.parameter("label"));
    let version = if !label.is_empty() {
        VersionChoice::Label(label.to_owned())
    } else if version.is_empty() {
        VersionChoice::Latest
    } else if version.bytes().all(|byte| byte.is_ascii_digit()) {
        VersionChoice::Number(version.parse().map_err(|_| {
            InferError::Invalid(format!("Failed to convert version: {version} to numeric."))
        })?)
    } else {
        return Err(InferError::Invalid(answer::malformed(&call.head)));
    };
    Ok(Target { model, version })
}

#[cfg(test)]
mod tests;
