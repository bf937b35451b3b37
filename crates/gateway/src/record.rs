//! What is told of one request: a span for who collects traces, a line for who reads the access log.
//!
//! Both last until the answer's body has been sent, or the client has gone. Where neither is wanted
//! there is no record, and nothing is paid.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tracing::Span;
use tracing::field::Empty;

use crate::call::{Call, Peer, X_REQUEST_ID, request_id};
use crate::gateway::Gateway;

/// Ties spans of the gateway to those of clients and replicas, whatever carries them.
#[derive(Debug, Clone, Copy)]
pub struct Trace {
    /// Makes a new span a child of the caller's, if the headers name one.
    pub set_parent: fn(&Span, &HeaderMap),
    /// Writes the span's context into the headers of the request that goes on.
    pub inject: fn(&Span, &mut HeaderMap),
}

/// One request, from its head to the end of its answer. Dropping it closes the span and writes the
/// line of the log.
#[derive(Debug)]
pub(crate) struct Record {
    span: Option<Span>,
    logged: Option<Logged>,
    /// `None`: the client went before there was an answer.
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    service: Option<Arc<str>>,
    replica: Option<SocketAddr>,
}

/// What only the log needs.
#[derive(Debug)]
struct Logged {
    started: Instant,
    peer: IpAddr,
    version: Version,
    method: Method,
    path: String,
    id: HeaderValue,
}

impl Gateway {
    /// Begins the record of a request, if somebody wants one. What the replica gets is a child of
    /// its span, and has the request's id that the log shows.
    pub(crate) fn record(
        &self,
        version: Version,
        method: &Method,
        path: &str,
        headers: &mut HeaderMap,
        peer: &Peer,
    ) -> Option<Box<Record>> {
        let (trace, access_log) = (self.settings.trace, self.settings.access_log);
        if trace.is_none() && !access_log {
            return None;
        }
        let id = headers.entry(X_REQUEST_ID).or_insert_with(request_id).clone();
        let span = trace.map(|trace| {
            let span = tracing::info_span!(
                "gateway",
                otel.kind = "server",
                http.request.method = %method,
                url.path = path,
                client.address = %peer.ip,
                http.response.status_code = Empty,
                rpc.grpc.status_code = Empty,
                server.address = Empty,
                service = Empty,
                request.id = id.to_str().unwrap_or_default(),
            );
            (trace.set_parent)(&span, headers);
            (trace.inject)(&span, headers);
            span
        });
        let logged = access_log.then(|| Logged {
            started: Instant::now(),
            peer: peer.ip,
            version,
            method: method.clone(),
            path: path.to_owned(),
            id,
        });
        Some(Box::new(Record {
            span,
            logged,
            status: None,
            grpc_status: None,
            service: None,
            replica: None,
        }))
    }
}

impl Record {
    /// Notes who answers, as far as the call has come.
    pub(crate) fn served_by(&mut self, call: &Call) {
        self.service = Some(call.service.name.clone());
        self.replica = call.replica;
    }

    /// Notes the head of the answer.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.ended(headers);
    }

    /// Notes the status of a gRPC call, which stands in the trailers, or in the head of an answer
    /// that has no messages.
    pub(crate) fn ended(&mut self, trailers: &HeaderMap) {
        let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
        self.grpc_status = code.or(self.grpc_status);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let status = self.status.map(|status| status.as_u16());
        let service = self.service.as_deref();
        if let Some(span) = &self.span {
            span.record("http.response.status_code", status);
            span.record("rpc.grpc.status_code", self.grpc_status);
            span.record("service", service);
            if let Some(replica) = self.replica {
                span.record("server.address", tracing::field::display(replica));
            }
        }
        let Some(Logged { started, peer, version, method, path, id }) = &self.logged else {
            return;
        };
        // The query is left out: it may hold secrets.
        tracing::info!(
            target: "access",
            %peer,
            ?version,
            %method,
            path,
            status,
            grpc_status = self.grpc_status,
            duration_us = micros(started.elapsed()),
            service,
            replica = self.replica.map(tracing::field::display),
            request_id = id.to_str().unwrap_or_default(),
        );
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
