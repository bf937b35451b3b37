//! The HTTP shell: one listener for REST and gRPC, limits, compression, request ids, traces, logs.

pub(crate) mod payload;
pub(crate) mod route;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Server;
use crate::shared_memory::SharedMemory;

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
}

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) server: Server,
    pub(crate) options: Arc<HttpOptions>,
    pub(crate) shared_memory: SharedMemory,
}

/// Serves until `stop` is cancelled, then drains.
pub async fn serve(
    _server: Server,
    _listener: TcpListener,
    _options: HttpOptions,
    _stop: CancellationToken,
) -> io::Result<()> {
    todo!()
}
