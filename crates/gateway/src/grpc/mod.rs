//! gRPC calls: HTTP/2 on both sides, any of the four kinds of calls, in both directions at once.

mod answer;
mod deadline;
mod forward;
mod local;
mod upload;

pub(crate) use answer::GrpcBody;
pub(crate) use forward::is_grpc;
pub(crate) use upload::CallBody;
