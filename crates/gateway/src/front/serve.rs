//! One listener, from its first connection to the end of its last.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{h1, h2};
use crate::call::Peer;
use crate::gateway::Gateway;
use crate::http1::{Timer, Wire};

/// With this a client of HTTP/2 begins (RFC 9113 §3.4); no request of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often idle connections to replicas are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Without file descriptors left, accepting fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The stages in which a listener ends.
#[derive(Debug)]
pub(crate) struct Shutdown {
    /// No new connections, and no new calls on those of HTTP/2.
    pub(crate) stop: CancellationToken,
    /// The same, for answers, which say `Connection: close` then. A token takes a lock to look at.
    pub(crate) draining: AtomicBool,
    /// Connections without a request are closed.
    pub(crate) closing: CancellationToken,
}

/// Serves a listener until `stop`, then ends in stages.
pub(crate) async fn serve(gateway: &Arc<Gateway>, listener: TcpListener, stop: CancellationToken) {
    let shutdown = Arc::new(Shutdown {
        stop: stop.clone(),
        draining: AtomicBool::new(false),
        closing: CancellationToken::new(),
    });
    let mut tasks = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            // A stop is seen before more clients are.
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accept(gateway, accepted, &shutdown, &mut tasks).await,
            Some(_) = tasks.join_next() => {}
            _ = sweep.tick() => gateway.sweep(),
        }
    }
    shutdown.draining.store(true, Ordering::Relaxed);
    // Who has connected already is served, where no other process takes over the listener.
    while let Poll::Ready(accepted) = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await {
        accept(gateway, accepted, &shutdown, &mut tasks).await;
    }
    drop(listener);
    let settings = &gateway.settings;
    let end = Instant::now() + settings.drain_timeout;
    let grace = settings.close_grace.min(settings.drain_timeout);
    let _ = tokio::time::timeout(grace, ended(&mut tasks)).await;
    shutdown.closing.cancel();
    if tokio::time::timeout_at(end.into(), ended(&mut tasks)).await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections outlived the drain and are cut");
        tasks.shutdown().await;
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

async fn accept(
    gateway: &Arc<Gateway>,
    accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
    shutdown: &Arc<Shutdown>,
    tasks: &mut JoinSet<()>,
) {
    let (stream, address) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            return tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    };
    let Some(place) = Place::take(gateway) else {
        tracing::debug!(%address, "too many connections");
        return;
    };
    // Without it, the last part of an answer waits for the client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
    tasks.spawn(async move {
        let _place = place;
        connection(gateway, stream, Peer::new(address.ip()), &shutdown).await;
    });
}

/// One of the connections that the gateway may have.
struct Place(Arc<Gateway>);

impl Place {
    fn take(gateway: &Arc<Gateway>) -> Option<Self> {
        let count: &AtomicUsize = &gateway.connections;
        let place = Self(gateway.clone());
        (count.fetch_add(1, Ordering::Relaxed) < gateway.settings.max_connections).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(gateway: Arc<Gateway>, stream: TcpStream, peer: Peer, shutdown: &Shutdown) {
    let mut wire = Wire::new(stream);
    let due = Instant::now() + gateway.settings.idle_timeout;
    let mut timer = Timer::new(due);
    let mut closing = std::pin::pin!(shutdown.closing.cancelled());
    // As long as what came is the beginning of the preface, it may become either version.
    let speaks_2 = poll_fn(|cx| {
        loop {
            if wire.input.starts_with(PREFACE) {
                return Poll::Ready(Some(true));
            }
            if !PREFACE.starts_with(&wire.input) {
                return Poll::Ready(Some(false));
            }
            match wire.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    let ended = wire.input.is_empty()
                        && std::future::Future::poll(closing.as_mut(), cx).is_ready();
                    if ended || timer.poll_due(cx, due).is_ready() {
                        return Poll::Ready(None);
                    }
                    return Poll::Pending;
                }
            }
        }
    });
    match speaks_2.await {
        Some(true) => h2::serve(gateway, wire, peer, shutdown).await,
        Some(false) => h1::serve(&gateway, wire, timer, peer, shutdown).await,
        None => {}
    }
}
