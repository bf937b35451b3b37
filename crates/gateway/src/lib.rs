//! The inference proxy: one hop between clients and replicas.
//!
//! In: connections, and a [`Table`] of services, revisions and endpoints. Out: forwarded requests,
//! per-service load for the autoscaler, and per-revision evidence for rollouts. It streams, buffers
//! no bodies, and reads of a body only what names the model.
//!
//! A request passes `front` (HTTP/1.1 by our own codec, HTTP/2 by hyper), `route` and `peek` (which
//! model), `call` (keys, rate, deadline, a place in the `queue`), `visit` (which replica), and
//! `forward` or `grpc` (attempts at replicas over `upstream`). What concerns no single model is
//! answered by `rest`, `grpc` and `union` for all services. Models are loaded and unloaded by their
//! manifests, not through the gateway, which refuses such requests.

mod body;
mod budget;
mod call;
mod choose;
mod eject;
mod forward;
mod front;
mod gateway;
mod grpc;
mod http1;
mod keys;
mod latency;
mod load;
mod metrics;
mod mirror;
mod peek;
mod queue;
mod rate;
mod record;
mod refusal;
mod replay;
mod rest;
mod revision;
mod route;
mod scope;
mod settings;
mod state;
pub mod table;
mod union;
mod upstream;
mod visit;

pub use eject::Ejection;
pub use gateway::{Gateway, ServiceFigures};
pub use latency::LatencyCounts;
pub use load::ServiceLoad;
pub use record::Trace;
pub use revision::RevisionLoad;
pub use settings::Settings;
pub use table::Table;
