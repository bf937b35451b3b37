//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use super::activity::{Activity, Verdict, Watched};
use super::dispatch::Dispatch;

/// Serves the requests of a connection until either side closes it. Told to stop, it finishes the
/// requests that have come, and answers them with `Connection: close`.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    builder: auto::Builder<TokioExecutor>,
    dispatch: Arc<Dispatch>,
) {
    // Answers are written whole, so there is nothing to wait for. Without this option they are sent
    // as well, only later.
    let _ = stream.set_nodelay(true);
    let _open = dispatch.metrics.count_connection();
    let activity = Activity::new();
    let io = TokioIo::new(Watched { inner: stream, activity: activity.clone() });
    let service = service_fn(|request| {
        let answer = dispatch.clone().answer(request, peer, activity.enter());
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder.serve_connection(io, service));

    let options = &dispatch.app.options;
    let (head, idle) = (options.header_timeout, options.idle_timeout);
    let mut look = tokio::time::interval(interval(head, idle));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = pin!(dispatch.app.stop.cancelled());
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    // A peer that went away or spoke no HTTP: its own affair.
                    tracing::debug!(%peer, error, "connection ended with an error");
                }
                return;
            }
            () = &mut stop, if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = look.tick() => match activity.verdict(Instant::now(), head, idle) {
                Verdict::Fine => {}
                Verdict::Idle => connection.as_mut().graceful_shutdown(),
                Verdict::SlowHead => {
                    tracing::debug!(%peer, "closed: the head of a request came too slowly");
                    return;
                }
            },
        }
    }
}

/// How often a connection is looked at: often enough that a timeout is kept to a quarter, and not so
/// often that many idle connections cost anything.
fn interval(head: Duration, idle: Duration) -> Duration {
    (head.min(idle) / 4).clamp(Duration::from_millis(20), Duration::from_secs(2))
}
