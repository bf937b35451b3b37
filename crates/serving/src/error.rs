//! Why a request was not answered, with what the caller can do about it.

use std::time::Duration;

/// The canonical kind, from which each protocol derives its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    /// Try again later or elsewhere.
    Unavailable,
    DeadlineExceeded,
    Cancelled,
    Unimplemented,
    TooLarge,
    Internal,
}

/// An error of the model server.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InferError {
    // Public clients match this text: it is Triton's.
    #[error("Request for unknown model: '{model}' is not found")]
    UnknownModel { model: String },
    #[error(
        "Request for unknown model: '{model}' version {version} is not found; versions ready: {ready:?}"
    )]
    UnknownVersion { model: String, version: u64, ready: Vec<u64> },
    #[error("model '{model}' has no version label '{label}'; labels: {known:?}")]
    UnknownLabel { model: String, label: String, known: Vec<String> },
    /// Something other than a model that the request names.
    #[error("{0}")]
    NotFound(String),
    #[error("model '{model}' is not ready: {reason}")]
    NotReady { model: String, reason: String },
    /// The request does not fit the model or the protocol.
    #[error("{0}")]
    Invalid(String),
    #[error("Exceeds maximum queue size of {limit} for model '{model}'")]
    QueueFull { model: String, limit: usize, retry_after: Duration },
    #[error("Request timeout expired")]
    QueueTimeout,
    #[error("deadline exceeded before model '{model}' answered")]
    DeadlineExceeded { model: String },
    #[error("the request was cancelled")]
    Cancelled,
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    AlreadyExists(String),
    #[error("{0}")]
    Internal(String),
}

impl InferError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownLabel { .. }
            | Self::NotFound(_) => ErrorKind::NotFound,
            Self::NotReady { .. }
            | Self::QueueFull { .. }
            | Self::QueueTimeout
            | Self::ShuttingDown => ErrorKind::Unavailable,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Unsupported(_) => ErrorKind::Unimplemented,
            Self::TooLarge(_) => ErrorKind::TooLarge,
            Self::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// When trying again makes sense, for `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } => Some(*retry_after),
            Self::NotReady { .. } | Self::ShuttingDown => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
