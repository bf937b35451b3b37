//! What a REST client sees of an error: a status, and `{"error": "…"}`.

use http::header::{HeaderValue, RETRY_AFTER};
use http::{StatusCode, request};

use crate::error::{ErrorKind, InferError};
use crate::http::payload::{Answer, json};
use crate::http::route::Unmatched;
use crate::protocol::json::Writer;

/// The status of a kind of error: Triton's, but where HTTP has a better one than 400.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::AlreadyExists => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        // The client is gone, so this is for the log only: nginx's "client closed request".
        ErrorKind::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        ErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer for an error. Clients read `error` as text, so it is never an object.
pub(crate) fn failure(error: &InferError) -> Answer {
    let mut answer = message(status(error.kind()), &error.to_string());
    if let Some(seconds) = retry_after(error) {
        answer.headers_mut().insert(RETRY_AFTER, seconds);
    }
    answer
}

/// The value of `Retry-After`, if trying again makes sense.
pub(crate) fn retry_after(error: &InferError) -> Option<HeaderValue> {
    // Whole seconds, and not "at once".
    let seconds = error.retry_after()?.as_millis().div_ceil(1_000).clamp(1, 3_600);
    Some(HeaderValue::from(u64::try_from(seconds).unwrap_or(1)))
}

/// The answer where no route matches.
pub(crate) fn unmatched(_: &request::Parts, unmatched: Unmatched) -> Answer {
    match unmatched {
        Unmatched::Path => message(StatusCode::NOT_FOUND, "Not Found"),
        Unmatched::Method => message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
    }
}

fn message(status: StatusCode, text: &str) -> Answer {
    let mut writer = Writer::default();
    writer.begin_object();
    writer.key("error");
    writer.string(text);
    writer.end_object();
    json(status, writer.finish())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn table() {
        check(InferError::Invalid("a \"b\"".to_owned()), 400, None, r#"{"error":"a \"b\""}"#);
        let unknown = InferError::UnknownModel { model: "x".to_owned() };
        check(unknown, 404, None, r#"{"error":"Request for unknown model: 'x' is not found"}"#);
        let full = |milliseconds| InferError::QueueFull {
            model: "x".to_owned(),
            limit: 1,
            retry_after: Duration::from_millis(milliseconds),
        };
        let text = r#"{"error":"Exceeds maximum queue size of 1 for model 'x'"}"#;
        check(full(0), 503, Some("1"), text);
        check(full(1_500), 503, Some("2"), text);
        check(InferError::TooLarge("t".to_owned()), 413, None, r#"{"error":"t"}"#);
    }

    #[track_caller]
    fn check(error: InferError, status: u16, retry_after: Option<&str>, body: &str) {
        let answer = failure(&error);
        assert_eq!(answer.status(), status);
        let header = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().expect("text"));
        assert_eq!(header, retry_after);
        assert_eq!(answer.into_body().pieces().collect::<Vec<_>>().concat(), body.as_bytes());
    }
}
