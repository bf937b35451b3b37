//! What a failed request means for who made it.

use std::fmt;
use std::time::Duration;

use kube_client::Error;

/// An error with its causes, in one line: a log's reader wants the cause above all.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(inner) = cause {
            write!(f, ": {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

/// Why a request failed, by what can be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The object, or its namespace, is not there or is going.
    #[error("{what}: it is gone")]
    Gone { what: String },
    /// Somebody else changed the object; reading it again helps.
    #[error("{what}: it changed in the meantime")]
    Conflict { what: String, source: Box<Error> },
    /// The server does not want it, now or ever: a person has to change something.
    #[error("{what}: {reason}")]
    Rejected { what: String, reason: String },
    /// It may work the next time.
    #[error("{what}: the API server did not do it")]
    Passing { what: String, not_before: Option<Duration>, source: Option<Box<Error>> },
}

impl CallError {
    pub(super) fn of(what: String, error: Error) -> Self {
        let Error::Api(status) = &error else {
            return Self::Passing { what, not_before: None, source: Some(Box::new(error)) };
        };
        let causes =
            status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        let is_ending = causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
        match status.code {
            404 | 410 => Self::Gone { what },
            403 if is_ending => Self::Gone { what },
            409 => Self::Conflict { what, source: Box::new(error) },
            // A timeout, and too much at once.
            408 | 429 => {
                let seconds =
                    status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                let not_before = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                Self::Passing { what, not_before, source: Some(Box::new(error)) }
            }
            400..=499 => Self::Rejected { what, reason: status.message.clone() },
            _ => Self::Passing { what, not_before: None, source: Some(Box::new(error)) },
        }
    }

    pub(super) fn timeout(what: String) -> Self {
        Self::Passing { what, not_before: None, source: None }
    }

    /// The server's own wish when to come back.
    pub(crate) fn not_before(&self) -> Option<Duration> {
        match self {
            Self::Passing { not_before, .. } => *not_before,
            Self::Gone { .. } | Self::Conflict { .. } | Self::Rejected { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube_client::core::Status;
    use serde_json::json;

    use super::*;

    fn of(status: serde_json::Value) -> CallError {
        let status: Status = serde_json::from_value(status).expect("a status");
        CallError::of("apply x".into(), Error::Api(Box::new(status)))
    }

    #[test]
    fn table() {
        assert!(matches!(of(json!({"code": 404})), CallError::Gone { .. }));
        assert!(matches!(of(json!({"code": 409})), CallError::Conflict { .. }));
        assert!(matches!(of(json!({"code": 422, "message": "no"})), CallError::Rejected { .. }));
        assert!(matches!(of(json!({"code": 403, "message": "no"})), CallError::Rejected { .. }));
        let ending =
            json!({"code": 403, "details": {"causes": [{"reason": "NamespaceTerminating"}]}});
        assert!(matches!(of(ending), CallError::Gone { .. }));
        assert!(matches!(of(json!({"code": 500})), CallError::Passing { not_before: None, .. }));
        let busy = of(json!({"code": 429, "details": {"retryAfterSeconds": 7}}));
        assert_eq!(busy.not_before(), Some(Duration::from_secs(7)));
        assert_eq!(of(json!({"code": 422, "message": "no"})).to_string(), "apply x: no");
    }
}
