//! Headers of inference requests and answers.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::error::InferError;
use crate::request::Execution;

/// Length of the JSON in front of binary tensors, in bytes, both ways.
pub(super) const HEADER_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

const QUEUE: HeaderName = HeaderName::from_static("x-trainyard-queue-us");
const COMPUTE: HeaderName = HeaderName::from_static("x-trainyard-compute-us");
const BATCH_SIZE: HeaderName = HeaderName::from_static("x-trainyard-batch-size");
const BATCH_CLOSE: HeaderName = HeaderName::from_static("x-trainyard-batch-close");

/// Adds queue and compute time in microseconds, batch size, and why the batch was closed.
pub(crate) fn describe(execution: &Execution, headers: &mut HeaderMap) {
    let microseconds = |duration: std::time::Duration| {
        HeaderValue::from(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    };
    headers.insert(QUEUE, microseconds(execution.queue));
    headers.insert(COMPUTE, microseconds(execution.compute));
    headers.insert(BATCH_SIZE, HeaderValue::from(execution.batch_size));
    headers.insert(BATCH_CLOSE, HeaderValue::from_static(execution.close.as_str()));
}

/// Where the JSON of a request ends, if its header says so. Binary data follows.
pub(super) fn json_length(
    headers: &HeaderMap,
    body_length: usize,
) -> Result<Option<usize>, InferError> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    // Digits only: `parse` alone would take a sign.
    let length = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match length {
        Some(length) if length <= body_length => Ok(Some(length)),
        _ => Err(InferError::Invalid(format!(
            "invalid Inference-Header-Content-Length '{}', expected a number from 0 to \
             {body_length}, the length of the body",
            String::from_utf8_lossy(value.as_bytes())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        check(None, Ok(None));
        check(Some("0"), Ok(Some(0)));
        check(Some("10"), Ok(Some(10)));
        for wrong in ["11", "-1", "+1", "x", "", "1.0", "18446744073709551616"] {
            check(Some(wrong), Err("from 0 to 10"));
        }
    }

    #[track_caller]
    fn check(header: Option<&'static str>, expected: Result<Option<usize>, &str>) {
        let mut headers = HeaderMap::new();
        if let Some(text) = header {
            headers.insert(HEADER_LENGTH, HeaderValue::from_static(text));
        }
        match (json_length(&headers, 10), expected) {
            (Ok(length), Ok(expected)) => assert_eq!(length, expected, "{header:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (length, expected) => panic!("{header:?}: {length:?}, expected {expected:?}"),
        }
    }
}
