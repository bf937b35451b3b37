//! The Open Inference Protocol v2 over REST, with Triton's extensions.
//!
//! What does not depend on the encoding (parameters, forms of outputs, settings) is shared with the
//! gRPC service of the same protocol.

mod decode;
mod encode;
mod failure;
mod fuzz;
mod headers;
mod infer;
pub(crate) mod load;
mod memory;
mod models;
pub(crate) mod output;
pub(crate) mod parameters;
mod raw_body;
mod repository;
mod routes;
mod schemas;
pub(crate) mod settings;
mod statistics;
mod trace_log;

pub(crate) use failure::{failure, retry_after, status, unmatched};
pub(crate) use fuzz::fuzz;
pub(crate) use headers::describe;
pub(crate) use routes::PROTOCOL;

use crate::error::InferError;
use crate::server::VersionState;

/// A state as the repository index has it.
pub(crate) fn state_name(state: VersionState) -> &'static str {
    match state {
        VersionState::Loading => "LOADING",
        VersionState::Ready => "READY",
        VersionState::Unloading => "UNLOADING",
        VersionState::Unavailable => "UNAVAILABLE",
    }
}

/// There is one repository, which has no name.
pub(crate) fn one_repository(name: &str) -> Result<(), InferError> {
    if name.is_empty() {
        return Ok(());
    }
    Err(InferError::Unsupported(format!(
        "'repository_name' specification is not supported, got '{name}'"
    )))
}
