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
