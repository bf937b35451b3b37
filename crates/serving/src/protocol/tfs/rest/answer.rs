//! Answers in the form of TensorFlow Serving's REST interface.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_TYPE, HeaderValue, ORIGIN, RETRY_AFTER,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::error::{ErrorKind, InferError};
use crate::http::payload::{self, Answer, Payload};
use crate::http::route::Unmatched;
use crate::protocol::json::Writer;
use crate::protocol::oip;

/// An answer with a JSON body that pages of any origin may read.
pub(crate) fn json(body: Vec<u8>) -> Answer {
    with_cors(payload::json(StatusCode::OK, body))
}

/// An error as `{ "error": "…" }`, with the status of its kind.
pub(crate) fn refusal(error: &InferError) -> Answer {
    let mut answer = failure(status(error.kind()), &error.to_string());
    if let Some(seconds) = oip::retry_after(error) {
        answer.headers_mut().insert(RETRY_AFTER, seconds);
    }
    answer
}

/// The answer to a request that no route is for. The question of a browser whether it may send one
/// is answered for every path, as TensorFlow Serving does.
pub(crate) fn unmatched(head: &Parts, _: Unmatched) -> Answer {
    if head.method == Method::OPTIONS && comes_from_a_page(head) {
        return with_cors(Response::new(Payload::default()));
    }
    failure(StatusCode::BAD_REQUEST, &malformed(head))
}

/// What a request that no route is for is told.
pub(super) fn malformed(head: &Parts) -> String {
    format!("Malformed request: {} {}", head.method, head.uri.path())
}

fn failure(status: StatusCode, message: &str) -> Answer {
    let mut text = Writer::default();
    text.string(message);
    let mut body = b"{ \"error\": ".to_vec();
    body.extend_from_slice(&text.finish());
    body.extend_from_slice(b" }");
    with_cors(payload::json(status, body))
}

fn with_cors(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from(CONTENT_TYPE));
    answer
}

fn comes_from_a_page(head: &Parts) -> bool {
    let origin = head.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.is_some_and(|origin| origin.starts_with("http://") || origin.starts_with("https://"))
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        // For all others both protocols have the same.
        kind => oip::status(kind),
    }
}
