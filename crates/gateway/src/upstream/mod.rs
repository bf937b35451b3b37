//! Connections to replicas, and one exchange over them.

mod grpc;
mod rest;

pub(crate) use grpc::{GrpcLease, GrpcPool};
pub(crate) use rest::{Connection, Failure, Limits, Line, RestPool, exchange};
