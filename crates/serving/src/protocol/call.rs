//! Running a decoded request within its deadline.

use crate::Server;
use crate::error::InferError;
use crate::request::{InferRequest, InferResponse};

/// Runs a request; the deadline holds whatever stage it is in when the deadline passes. Dropping
/// the future cancels it.
pub(crate) async fn infer(
    server: &Server,
    request: InferRequest,
) -> Result<InferResponse, InferError> {
    let Some(deadline) = request.deadline else { return server.infer(request).await };
    let model = request.model.clone();
    match tokio::time::timeout_at(deadline.into(), server.infer(request)).await {
        Ok(result) => result,
        Err(_) => Err(InferError::DeadlineExceeded { model }),
    }
}
