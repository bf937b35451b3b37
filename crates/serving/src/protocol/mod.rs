//! Wire protocols, one folder each. Each translates between bytes and [`crate::InferRequest`].

mod call;
mod classification;
pub mod grpc;
mod narrow;
mod raw;
mod tfs;
