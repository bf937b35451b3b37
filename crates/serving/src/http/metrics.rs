//! Metrics of requests, by route.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::route::Protocol;
use crate::scheduler::Metrics;

/// Stands for the path of a request that no route matches, of which there is no end.
const UNMATCHED: &str = "unmatched";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    protocol: &'static str,
    route: String,
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    protocol: &'static str,
    route: String,
    method: String,
    code: u16,
}

type Durations = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// The metrics of one listener.
#[derive(Debug)]
pub(super) struct HttpMetrics {
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    durations: Durations,
    in_flight: Gauge,
    connections: Gauge,
    /// By protocol and route, resolved on first use: looking a handle up costs more than a request
    /// to a busy route should.
    resolved: Vec<Vec<OnceLock<Resolved>>>,
}

#[derive(Debug)]
struct Resolved {
    succeeded: Counter<u64, AtomicU64>,
    duration: Histogram,
}

/// Which route a request went to.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteIndex {
    pub(super) protocol: usize,
    pub(super) route: usize,
}

/// Adds one to a gauge until it is dropped.
#[must_use]
pub(super) struct Held<'a>(&'a Gauge);

impl<'a> Held<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpMetrics {
    /// Registers the metrics of these protocols' routes.
    pub(super) fn new(metrics: &Metrics, protocols: &[&'static Protocol]) -> Self {
        // 50 µs to 100 s, each bucket twice the one before.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(50e-6, 2.0, 22));
        let route_cells = |protocol: &&Protocol| {
            protocol.routes.iter().map(|_| OnceLock::new()).collect::<Vec<_>>()
        };
        let http = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            resolved: protocols.iter().map(route_cells).collect(),
        };
        metrics.with_registry(|registry| {
            registry.register(
                "trainyard_http_requests",
                "Requests answered, by route and status",
                http.requests.clone(),
            );
            registry.register(
                "trainyard_http_request_duration_seconds",
                "From the end of a request's head to the end of its handler",
                http.durations.clone(),
            );
            registry.register(
                "trainyard_http_requests_in_flight",
                "Requests being handled",
                http.in_flight.clone(),
            );
            registry.register(
                "trainyard_http_connections",
                "Open connections",
                http.connections.clone(),
            );
        });
        http
    }

    /// Counts a request as long as it is held.
    pub(super) fn count_in_flight(&self) -> Held<'_> {
        Held::new(&self.in_flight)
    }

    /// Counts a connection as long as it is held.
    pub(super) fn count_connection(&self) -> Held<'_> {
        Held::new(&self.connections)
    }

    /// Counts a request to a route of a REST protocol.
    pub(super) fn count(
        &self,
        protocols: &[&'static Protocol],
        at: RouteIndex,
        status: StatusCode,
        duration: Duration,
    ) {
        let Some(protocol) = protocols.get(at.protocol) else { return };
        let Some(route) = protocol.routes.get(at.route) else { return };
        let cell = self.resolved.get(at.protocol).and_then(|routes| routes.get(at.route));
        let Some(cell) = cell else { return };
        let method = route.method.as_str();
        let resolved = cell.get_or_init(|| Resolved {
            succeeded: self.counter(protocol.name, route.template, method, StatusCode::OK),
            duration: self.histogram(protocol.name, route.template, method),
        });
        resolved.duration.observe(duration.as_secs_f64());
        if status == StatusCode::OK {
            resolved.succeeded.inc();
        } else {
            self.counter(protocol.name, route.template, method, status).inc();
        }
    }

    /// Counts a request to a path that is no route.
    pub(super) fn count_unmatched(&self, protocol: &'static str, status: StatusCode) {
        self.counter(protocol, UNMATCHED, "", status).inc();
    }

    /// Counts a call of a gRPC method. `known` tells a method that exists from any other path.
    pub(super) fn count_grpc(
        &self,
        path: &str,
        known: bool,
        status: StatusCode,
        duration: Duration,
    ) {
        let route = if known { path } else { UNMATCHED };
        self.counter("grpc", route, "POST", status).inc();
        if known {
            self.histogram("grpc", route, "POST").observe(duration.as_secs_f64());
        }
    }

    fn counter(
        &self,
        protocol: &'static str,
        route: &str,
        method: &str,
        status: StatusCode,
    ) -> Counter<u64, AtomicU64> {
        let (route, method) = (route.to_owned(), method.to_owned());
        let labels = RequestLabels { protocol, route, method, code: status.as_u16() };
        self.requests.get_or_create_owned(&labels)
    }

    fn histogram(&self, protocol: &'static str, route: &str, method: &str) -> Histogram {
        let (route, method) = (route.to_owned(), method.to_owned());
        self.durations.get_or_create_owned(&RouteLabels { protocol, route, method })
    }
}
