//! Wire protocols, one folder each. Each translates between bytes and [`crate::InferRequest`].

mod call;
mod classification;
pub mod grpc;
mod json;
pub(crate) mod kserve_v1;
mod narrow;
mod raw;
pub(crate) mod tfs;
