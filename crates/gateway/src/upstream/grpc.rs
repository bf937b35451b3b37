//! HTTP/2 to replicas, for gRPC: few connections, many calls on each.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::grpc::CallBody;

/// Calls on one connection before another is opened. Servers allow 100 (grpc-go) to 200 (tonic).
const CALLS: usize = 64;
/// Beyond it calls share connections, and wait for each other's streams.
const CONNECTIONS: usize = 16;
/// Finds a replica that vanished without closing, while calls wait for it.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Tensors are large: with HTTP/2's 64 KiB each would wait for many round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

#[derive(Debug, Default)]
pub(crate) struct GrpcPool {
    connections: Mutex<Vec<Arc<Shared>>>,
    /// Held while connecting, so that a burst of calls opens one connection and not many.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    sender: SendRequest<CallBody>,
    calls: AtomicUsize,
}

/// A place for one call on a connection.
#[derive(Debug)]
pub(crate) struct GrpcLease(Arc<Shared>);

impl GrpcLease {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.calls.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }

    pub(crate) fn sender(&self) -> SendRequest<CallBody> {
        self.0.sender.clone()
    }
}

impl Drop for GrpcLease {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GrpcPool {
    /// A connection with room for a call; opens one if need be.
    pub(crate) async fn lease(
        &self,
        address: SocketAddr,
        timeout: Duration,
        tasks: &TaskTracker,
    ) -> io::Result<GrpcLease> {
        if let Some(lease) = self.open(CALLS) {
            return Ok(lease);
        }
        let _turn = self.connecting.lock().await;
        if let Some(lease) = self.open(CALLS) {
            return Ok(lease);
        }
        let many = self.lock().len() >= CONNECTIONS;
        if let Some(lease) = many.then(|| self.open(usize::MAX)).flatten() {
            return Ok(lease);
        }
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            tasks.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to a replica ended");
                }
            });
            Ok::<_, io::Error>(sender)
        };
        let sender = tokio::time::timeout(timeout, connect).await??;
        let shared = Arc::new(Shared { sender, calls: AtomicUsize::new(0) });
        let lease = GrpcLease::new(&shared);
        self.lock().push(shared);
        Ok(lease)
    }

    /// Of the open connections the one with the fewest calls, if it has fewer than `below`.
    fn open(&self, below: usize) -> Option<GrpcLease> {
        let mut connections = self.lock();
        connections.retain(|shared| !shared.sender.is_closed());
        let calls = |shared: &Arc<Shared>| shared.calls.load(Ordering::Relaxed);
        let best = connections.iter().min_by_key(|shared| calls(shared))?;
        (calls(best) < below).then(|| GrpcLease::new(best))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Shared>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets connections end once their calls have.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}
