//! The gateway's side: who connects is told.

use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, serve};
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use trainyard_gateway::Gateway;

use super::report::Reporter;

/// Where operators ask.
pub(super) const PATH: &str = "/report";
/// Between two lines while nobody waits.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two lines at least, however many requests are held.
const SHORTEST: Duration = Duration::from_millis(50);

struct Told {
    gateway: Arc<Gateway>,
    instance: String,
    /// Grows when requests are held for another service.
    held: watch::Sender<u64>,
}

/// Tells whoever connects what the gateway counts, until it is dropped.
pub async fn report(listener: std::net::TcpListener, gateway: Arc<Gateway>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    // Not for secrecy: to be told from the process before.
    let instance = format!("{:016x}", std::hash::RandomState::new().hash_one(std::process::id()));
    let told = Arc::new(Told { gateway, instance, held: watch::Sender::new(0) });
    let router = Router::new().route(PATH, get(lines)).with_state(told.clone());
    let hasten = async {
        loop {
            let _ = told.gateway.wanted().await;
            told.held.send_modify(|count| *count = count.wrapping_add(1));
        }
    };
    tokio::select! {
        served = async { serve(listener, router).await } => served,
        () = hasten => Ok(()),
    }
}

async fn lines(State(told): State<Arc<Told>>) -> impl IntoResponse {
    let reporter = Reporter::new(told.instance.clone());
    let held = told.held.subscribe();
    let first: Option<Instant> = None;
    let lines = stream::unfold((told, reporter, held, first), |state| async move {
        let (told, mut reporter, mut held, last) = state;
        if let Some(last) = last {
            tokio::select! {
                () = sleep_until(last + PERIOD) => {}
                // The sender lives as long as `told`.
                _ = held.changed() => sleep_until(last + SHORTEST).await,
            }
        }
        held.mark_unchanged();
        let report = reporter.next(&told.gateway.observe_all());
        // Names and numbers are always written.
        let mut line = serde_json::to_vec(&report).unwrap_or_default();
        line.push(b'\n');
        let state = (told, reporter, held, Some(Instant::now()));
        Some((Ok::<_, io::Error>(Bytes::from(line)), state))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines))
}
