//! The access log: one event for each request, with target `access`.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version};

/// What is logged of a request.
pub(super) struct Access<'a> {
    pub(super) peer: SocketAddr,
    pub(super) version: Version,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) route: &'a str,
    pub(super) status: StatusCode,
    pub(super) duration: Duration,
    pub(super) request_bytes: usize,
    pub(super) response_bytes: usize,
    pub(super) id: &'a HeaderValue,
}

impl Access<'_> {
    /// Writes the event. The query of the path is left out: it may hold secrets.
    pub(super) fn log(&self) {
        tracing::info!(
            target: "access",
            peer = %self.peer,
            version = ?self.version,
            method = %self.method,
            path = self.path,
            route = self.route,
            status = self.status.as_u16(),
            duration_us = u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX),
            request_bytes = self.request_bytes,
            response_bytes = self.response_bytes,
            request_id = self.id.to_str().unwrap_or_default(),
        );
    }
}
