//! The model server: engines, the model repository, batching and wire protocols.
//!
//! In: model files, and inference requests in any of the supported protocols. Out: answers, metrics
//! and model states. Protocol folders translate bytes to [`InferRequest`] and back; the [`Server`]
//! knows no protocol; an engine knows tensors only.

mod config;
pub mod engine;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod metrics;
pub mod onnx;
pub mod protocol;
mod repository;
pub mod request;
pub mod scheduler;
pub mod server;
pub mod shared_memory;
pub mod signature;
pub mod tensor;

pub use error::InferError;
pub use request::{InferRequest, InferResponse};
pub use server::Server;
pub use tensor::{DataType, Tensor};
