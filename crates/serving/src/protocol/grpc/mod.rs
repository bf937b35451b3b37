//! Every gRPC service: the Open Inference Protocol with Triton's extensions, TensorFlow Serving's,
//! and the health protocol.

pub(crate) mod config;
pub(crate) mod deadline;
mod dispatch;
mod execution;
pub(crate) mod fuzz;
mod health;
mod oip;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod tfs;

pub use dispatch::{Grpc, GrpcOptions};

/// Messages and services of package `inference`.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
#[allow(unreachable_pub, unused_qualifications, rust_2018_idioms, reason = "generated")]
pub mod inference {
    include!("generated/inference.rs");
}

/// Messages and service of package `grpc.health.v1`.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
#[allow(unreachable_pub, unused_qualifications, rust_2018_idioms, reason = "generated")]
pub mod health_v1 {
    include!("generated/grpc.health.v1.rs");
}

/// Messages of package `tensorflow`.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
#[allow(unreachable_pub, unused_qualifications, rust_2018_idioms, reason = "generated")]
pub mod tensorflow {
    include!("generated/tensorflow.rs");

    /// Messages and services of package `tensorflow.serving`.
    pub mod serving {
        include!("generated/tensorflow.serving.rs");
    }
}
