//! The HTTP shell: one listener for REST and gRPC, limits, compression, request ids, traces, logs.
//!
//! In: bytes of connections. Out: [`route::Call`]s for the handlers of the REST protocols, requests
//! for the gRPC services, and their answers on the wire. Knows no protocol beyond its table of
//! routes.

mod access;
mod activity;
mod body;
mod compression;
mod connection;
mod deadline;
mod dispatch;
mod listener;
mod metrics;
mod own;
pub(crate) mod payload;
mod request_id;
pub(crate) mod route;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::Server;
use crate::protocol::{oip, tfs};
use crate::shared_memory::SharedMemory;
use route::Protocol;

pub use listener::serve;

/// The REST protocols. A path belongs to the first whose prefix it has; the last has them all.
pub(crate) static PROTOCOLS: [&Protocol; 3] =
    [&oip::PROTOCOL, &tfs::rest::PROTOCOL, &own::PROTOCOL];

/// Settings of the listener.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// What `GET /v2` answers as name.
    pub server_name: String,
    /// The largest request body, in bytes, after decompression.
    pub max_body_bytes: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// How long a client may send no byte of a body that is due.
    pub body_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    pub max_connections: usize,
    /// After `stop`: what is still in flight then is cut.
    pub drain_timeout: Duration,
    /// Whether each request is logged (target `access`).
    pub access_log: bool,
    /// With a hook, each request runs in a span `request`, which the hook may give the parent that
    /// the request's headers name (W3C trace context). Without, there are no spans.
    pub trace: Option<TraceHook>,
}

/// Gives a request's span the parent that the headers name.
pub type TraceHook = fn(&tracing::Span, &HeaderMap);

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            server_name: "trainyard".to_owned(),
            // Triton's own default.
            max_body_bytes: 64 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            // nginx's default, so that proxies tuned for it do not race with us.
            idle_timeout: Duration::from_secs(75),
            max_connections: 10_000,
            drain_timeout: Duration::from_secs(30),
            access_log: false,
            trace: None,
        }
    }
}

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) server: Server,
    pub(crate) options: Arc<HttpOptions>,
    pub(crate) shared_memory: SharedMemory,
    /// Cancelled when the server is told to stop.
    pub(crate) stop: CancellationToken,
}

impl App {
    /// Whether requests should come here: every model is ready, and the server is not about to end.
    pub(crate) fn is_ready(&self) -> bool {
        self.server.is_ready() && !self.stop.is_cancelled()
    }
}
