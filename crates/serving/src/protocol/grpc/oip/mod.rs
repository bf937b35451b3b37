//! `inference.GRPCInferenceService`: the Open Inference Protocol with Triton's extensions.

mod contents;
mod decode;
mod encode;
mod parameters;
mod service;
mod settings;
mod stream;
#[cfg(test)]
mod tests;

pub(super) use service::InferenceService;

use super::inference::ModelInferRequest;
use crate::shared_memory::SharedMemory;

/// Decodes any message, for the fuzz targets.
pub(super) fn fuzz(message: ModelInferRequest) {
    let _ = decode::decode(message, &SharedMemory::default(), None);
}
