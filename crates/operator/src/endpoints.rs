//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, serve};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::feed::Sync;

struct Shown {
    registry: Registry,
    sync: Arc<Sync>,
}

/// Answers until it is told to stop.
pub(crate) async fn answer(
    listener: TcpListener,
    registry: Registry,
    sync: Arc<Sync>,
    stop: CancellationToken,
) {
    let shown = Arc::new(Shown { registry, sync });
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shown);
    let served = serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics and health are not served any more");
    }
}

async fn metrics(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &shown.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Ready to take over, whether it leads or not: everything that there is has been seen.
async fn ready(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    if shown.sync.is_reached() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let text = match shown.sync.missing() {
        missing if missing.is_empty() => "asks which APIs the cluster has\n".to_owned(),
        missing => format!("waits for the first list of: {}\n", missing.join(", ")),
    };
    (StatusCode::SERVICE_UNAVAILABLE, text)
}
