//! What a gRPC client sees of an error.

use tonic::metadata::MetadataValue;
use tonic::{Code, Response, Status};

use crate::error::{ErrorKind, InferError};

/// What every method gives: a message, or the status of an error.
pub(super) type Answer<T> = Result<Response<T>, Status>;

/// Trailer by which gRPC clients with a retry policy learn when to try again, in milliseconds.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The canonical code of a kind of error, one to one as Triton has it.
pub(crate) fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unimplemented => Code::Unimplemented,
        // What gRPC libraries themselves answer to a message that is too large.
        ErrorKind::TooLarge => Code::ResourceExhausted,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Status and trailers of an error.
pub(crate) fn status(error: &InferError) -> Status {
    let mut status = Status::new(code(error.kind()), error.to_string());
    if let Some(after) = error.retry_after() {
        let milliseconds =
            MetadataValue::from(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        status.metadata_mut().insert(RETRY_PUSHBACK, milliseconds);
    }
    status
}

/// The answer of a method without metadata of its own.
pub(super) fn answer<T>(result: Result<T, InferError>) -> Answer<T> {
    result.map(Response::new).map_err(|error| status(&error))
}
