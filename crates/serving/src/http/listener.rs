//! The listener: accepts connections until told to stop, then drains.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dispatch::Dispatch;
use super::{HttpOptions, connection};
use crate::Server;

/// How long to wait after the system refused a connection, most often because no more files may be
/// opened: until then every attempt would be refused.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Flow control of HTTP/2, in bytes: a stream may have so much on its way. Large tensors would
/// otherwise wait for a window of 64 KiB to open again and again.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 256 << 10;

/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 1_000;

/// The largest list of headers over HTTP/2, in bytes. Over HTTP/1.1 the read buffer is the limit.
const MAX_HEADERS: u32 = 64 << 10;

/// Serves until `stop` is cancelled, then drains: no new connection, requests that have come are
/// answered, and what is still in flight after the drain timeout is cut.
pub async fn serve(
    server: Server,
    listener: TcpListener,
    options: HttpOptions,
    stop: CancellationToken,
) -> io::Result<()> {
    allow_many_files();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let drain_timeout = options.drain_timeout;
    let places = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
    let dispatch = Arc::new(Dispatch::new(server, options, stop.clone()));
    let builder = builder();
    let mut connections = JoinSet::new();
    loop {
        // With every place taken, new connections wait in the system's backlog.
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept => match accepted {
                Ok((stream, peer)) => {
                    let serving =
                        connection::serve(stream, peer, builder.clone(), dispatch.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            },
        }
    }

    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_timeout, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cut what did not finish within the drain timeout"
        );
        connections.shutdown().await;
    }
    Ok(())
}

/// Lets the process open as many files as it may: every connection is one, and the limit that most
/// systems start with (1,024) is meant for programs that use `select`.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        if let Err(error) = raised {
            tracing::debug!(%error, "cannot raise the limit of open files");
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().half_close(false).pipeline_flush(true);
    builder
        .http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEADERS);
    builder
}
