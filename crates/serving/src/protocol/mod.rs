//! Wire protocols, one folder each. Each translates between bytes and [`crate::InferRequest`].

mod call;
mod classification;
pub mod grpc;
mod json;
pub(crate) mod kserve_v1;
mod narrow;
mod offload;
pub(crate) mod oip;
pub(crate) mod openapi;
pub(crate) mod raw;
pub(crate) mod tfs;
