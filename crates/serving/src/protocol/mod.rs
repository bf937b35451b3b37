//! Wire protocols, one folder each. Each translates between bytes and [`crate::InferRequest`].

mod call;
mod classification;
pub mod grpc;
mod json;
pub(crate) mod oip;
pub(crate) mod openapi;
mod raw;
