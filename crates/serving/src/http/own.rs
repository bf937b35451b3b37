//! The server's own routes: probes, metrics and the OpenAPI document.

use std::future::ready;
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{Object, ObjectBuilder, RefOr, Schema, Type};

use super::PROTOCOLS;
use super::payload::{Answer, Payload, json};
use super::route::{Call, Protocol, Route, get};
use crate::protocol::{oip, openapi};

/// Routes that belong to no inference protocol. Every path that no other protocol has ends here.
pub(super) static PROTOCOL: Protocol = Protocol {
    name: "server",
    prefix: "/",
    routes: ROUTES,
    ignores_case: false,
    unmatched: oip::unmatched,
    refusal: oip::failure,
    schemas,
};

static ROUTES: &[Route] = &[
    get("/health", "Whether the server runs, for container health checks", "Status", |call| {
        status(call.app.server.is_live(), "alive")
    }),
    get("/healthz", "Whether the server runs", "Status", |call| {
        status(call.app.server.is_live(), "alive")
    }),
    get("/readyz", "Whether every model is ready", "Status", |call| {
        status(call.app.is_ready(), "ready")
    }),
    get("/", "Whether the server runs, as KServe's servers say it", "Status", |call| {
        status(call.app.server.is_live(), "alive")
    }),
    Route {
        method: Method::GET,
        template: "/metrics",
        handler: |call| Box::pin(ready(metrics(&call))),
        summary: "Metrics in the OpenMetrics text format",
        request: None,
        response: None,
    },
    get("/openapi.json", "This document", "Document", |_| {
        Box::pin(ready(json(StatusCode::OK, document())))
    }),
];

fn status(is_so: bool, word: &str) -> BoxFuture<'static, Answer> {
    let answer = if is_so {
        json(StatusCode::OK, format!(r#"{{"status":"{word}"}}"#))
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, format!(r#"{{"status":"not {word}"}}"#))
    };
    Box::pin(ready(answer))
}

fn metrics(call: &Call) -> Answer {
    let mut answer = Answer::new(Payload::from(Bytes::from(call.app.server.metrics().encode())));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Made on first use: most servers are never asked.
fn document() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let text = serde_json::to_vec(&openapi::document(&PROTOCOLS));
        Bytes::from(text.expect("a document made of strings and lists serialises"))
    });
    DOCUMENT.clone()
}

fn schemas() -> Vec<(&'static str, RefOr<Schema>)> {
    let status = ObjectBuilder::new().property("status", Object::with_type(Type::String));
    let document = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .description(Some("An OpenAPI 3.1 document"));
    vec![("Status", status.into()), ("Document", document.into())]
}
