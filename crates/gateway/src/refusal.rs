//! What the gateway answers by itself when it cannot forward, in the protocol's own shape.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

/// Which protocol's shape an error takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `{"error": "…"}`, of the Open Inference Protocol and TensorFlow Serving.
    Rest,
    /// `{"error": {"message": …}}`.
    OpenAi,
}

impl Shape {
    /// The shape that clients of a path (without prefix) expect.
    pub(crate) fn of(path: &str) -> Self {
        let path = path.strip_prefix("/openai").unwrap_or(path);
        match path.split_at_checked(4) {
            Some((v1, rest)) if v1.eq_ignore_ascii_case("/v1/") => {
                let models = rest.get(..6).is_some_and(|s| s.eq_ignore_ascii_case("models"));
                if models { Self::Rest } else { Self::OpenAi }
            }
            _ => Self::Rest,
        }
    }
}

/// Why a request was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadRequest,
    Unauthenticated,
    NotFound,
    MethodNotAllowed,
    /// The client took too long to send what it had announced.
    ClientTimeout,
    HeadTooLarge,
    RateLimited,
    /// All replicas are busy and the queue is full, or the request waited too long in it.
    Overloaded,
    /// No replica became ready in time.
    NoReplica,
    /// The replica could not be reached or broke off.
    BadGateway,
    DeadlineExceeded,
    /// Load and unload: manifests say which models there are.
    ModelsAreManaged,
    Unimplemented,
}

impl Reason {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::ModelsAreManaged => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::NoReplica => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// The canonical gRPC code.
    pub(crate) fn grpc_code(self) -> u8 {
        match self {
            Self::BadRequest => 3,
            Self::DeadlineExceeded | Self::ClientTimeout => 4,
            Self::NotFound => 5,
            Self::HeadTooLarge | Self::RateLimited => 8,
            Self::ModelsAreManaged => 9,
            Self::MethodNotAllowed | Self::Unimplemented => 12,
            Self::Overloaded | Self::NoReplica | Self::BadGateway => 14,
            Self::Unauthenticated => 16,
        }
    }

    fn openai_type(self) -> &'static str {
        match self {
            Self::Unauthenticated => "authentication_error",
            Self::RateLimited => "rate_limit_error",
            Self::NotFound => "not_found_error",
            reason if reason.status().is_client_error() => "invalid_request_error",
            _ => "server_error",
        }
    }
}

/// An answer of the gateway in place of a replica's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: Cow<'static, str>,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), retry_after: None }
    }

    pub(crate) fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// As an HTTP answer with a body.
    pub(crate) fn response(&self, shape: Shape) -> Response<Vec<u8>> {
        let body = match shape {
            Shape::Rest => serde_json::json!({ "error": self.message }),
            Shape::OpenAi => serde_json::json!({ "error": {
                "message": self.message,
                "type": self.reason.openai_type(),
                "param": null,
                "code": self.openai_code(),
            }}),
        };
        let mut response = Response::new(body.to_string().into_bytes());
        *response.status_mut() = self.reason.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.reason == Reason::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// As a gRPC answer that has trailers only: status 200, and the code in the head.
    pub(crate) fn trailers<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.reason.grpc_code())));
        headers.insert("grpc-message", percent_encoded(&self.message));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Whole seconds, rounded up: a client that comes back too early is refused again.
    fn retry_after_seconds(&self) -> Option<u64> {
        let after = self.retry_after?;
        Some(after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1))
    }

    fn openai_code(&self) -> Option<&'static str> {
        match self.reason {
            Reason::NotFound => Some("model_not_found"),
            Reason::Unauthenticated => Some("invalid_api_key"),
            Reason::RateLimited => Some("rate_limit_exceeded"),
            _ => None,
        }
    }
}

/// `grpc-message` is percent-encoded outside of printable ASCII.
fn percent_encoded(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_by_path() {
        let shapes = [
            ("/v2/models/m/infer", Shape::Rest),
            ("/v1/models/m:predict", Shape::Rest),
            ("/V1/MODELS/m", Shape::Rest),
            ("/v1/chat/completions", Shape::OpenAi),
            ("/openai/v1/embeddings", Shape::OpenAi),
            ("/", Shape::Rest),
            ("/é", Shape::Rest),
        ];
        for (path, shape) in shapes {
            assert_eq!(Shape::of(path), shape, "{path}");
        }
    }

    #[test]
    fn each_protocol_gets_its_own_shape() {
        let refusal =
            Refusal::new(Reason::RateLimited, "too many").after(Duration::from_millis(1_200));
        let rest = refusal.response(Shape::Rest);
        assert_eq!(rest.status(), 429);
        assert_eq!(rest.headers()["retry-after"], "2");
        assert_eq!(rest.body(), br#"{"error":"too many"}"#);
        let body: serde_json::Value =
            serde_json::from_slice(refusal.response(Shape::OpenAi).body()).unwrap();
        assert_eq!(body["error"]["type"], "rate_limit_error");
        assert_eq!(body["error"]["message"], "too many");
        let grpc: Response<()> = refusal.trailers();
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["grpc-status"], "8");
    }

    #[test]
    fn grpc_messages_are_encoded() {
        assert_eq!(percent_encoded("100% é\n"), "100%25 %C3%A9%0A");
    }
}
