//! Work on large bodies, away from the threads that answer requests.

use super::raw;
use crate::error::InferError;
use crate::tensor::Tensor;

/// Bytes of JSON that are read or written where the request is handled. JSON of numbers is read and
/// written at 300 MB/s and more, so this many take less than the 100 µs that a runtime thread may be
/// kept from other requests; handing work over costs about 20 µs.
const AT_ONCE: usize = 32 << 10;

/// About how many bytes of JSON tensors make: numbers take some three times the room that they take
/// in memory.
pub(crate) fn json_bytes<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> usize {
    let bytes = |tensor: &Tensor| raw::encoded_len(tensor).saturating_mul(3);
    tensors.into_iter().fold(0, |sum, tensor| sum.saturating_add(bytes(tensor)))
}

/// Runs work whose cost grows with `bytes`, on another thread if they are many.
pub(crate) async fn offload<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, InferError> + Send + 'static,
) -> Result<T, InferError> {
    if bytes <= AT_ONCE {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(InferError::Internal(format!("a large body was not handled: {error}"))),
    }
}
