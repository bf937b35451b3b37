//! How one gateway behaves, whatever its table says.

use std::time::Duration;

use crate::eject::Ejection;
use crate::record::Trace;

/// Settings of a [`crate::Gateway`]; `Settings::default()` suits a service on one machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A path under which the gateway is mounted, as `/team/models`; stripped before routing.
    pub path_prefix: Option<String>,
    /// Client connections beyond this many are closed at once.
    pub max_connections: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// How long a client connection may stay open without a request.
    pub idle_timeout: Duration,
    /// How long a client may neither send nor take bytes that are due.
    pub stall_timeout: Duration,
    /// For one TCP connection to a replica.
    pub connect_timeout: Duration,
    /// From a request's start to the head of its answer, unless the client sets a deadline.
    pub response_timeout: Duration,
    /// How long a connection to a replica is kept without use. Must be shorter than the replica
    /// keeps its end, or requests meet closing connections.
    pub upstream_idle: Duration,
    /// Idle connections kept to each replica.
    pub upstream_idle_max: usize,
    /// Bytes of a request body kept so that it can be sent again.
    pub replay_limit: usize,
    /// The same over all requests, besides 64 KiB of each; beyond it bodies are not kept.
    pub replay_total: usize,
    /// Bytes of a request body read to find which model it names.
    pub peek_limit: usize,
    /// Attempts for one request, the first included.
    pub max_attempts: u32,
    /// Retries as a share of requests, besides `retry_min_per_second`.
    pub retry_ratio: f64,
    pub retry_min_per_second: f64,
    pub ejection: Ejection,
    /// Requests held for a service that sets no `max_held`.
    pub max_held: usize,
    /// How long requests are held where a service sets no `hold_timeout`.
    pub hold_timeout: Duration,
    /// Copies in flight to mirror revisions, over all services; more are not made.
    pub max_mirrored: usize,
    /// After `serve` is cancelled: answers carry `Connection: close` for this long before idle
    /// connections are closed, so that no request meets a closing connection.
    pub close_grace: Duration,
    /// After `serve` is cancelled: what is still in flight then is cut.
    pub drain_timeout: Duration,
    /// Believe `x-forwarded-for` of clients (the gateway stands behind another proxy).
    pub trust_forwarded: bool,
    /// Readiness follows the table alone: ready once there is one, whatever its services can do. For
    /// a gateway that many services share, of which one must not take the others off the air.
    pub ready_by_table: bool,
    /// Log each request (target `access`).
    pub access_log: bool,
    /// Make a span of each request.
    pub trace: Option<Trace>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path_prefix: None,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(180),
            stall_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(300),
            upstream_idle: Duration::from_secs(45),
            upstream_idle_max: 512,
            replay_limit: 16 << 20,
            replay_total: 256 << 20,
            peek_limit: 1 << 16,
            max_attempts: 3,
            retry_ratio: 0.2,
            retry_min_per_second: 10.0,
            ejection: Ejection::default(),
            max_held: 1_000,
            hold_timeout: Duration::from_secs(60),
            max_mirrored: 64,
            close_grace: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(30),
            trust_forwarded: false,
            ready_by_table: false,
            access_log: false,
            trace: None,
        }
    }
}
