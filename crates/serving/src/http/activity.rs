//! What a connection is doing, so that one that does nothing can be closed.
//!
//! A connection notes times in atomics as it goes and looks at them a few times a second. A timer
//! for each request would cost more than the rest of this module.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    /// Requests that are not answered completely.
    in_flight: AtomicU32,
    /// When the last answer was complete, in milliseconds since `start`.
    idle_since: AtomicU64,
    /// When the first byte of a head came that is not complete, in milliseconds since `start`; 0 if
    /// there is none.
    head_since: AtomicU64,
    /// HTTP/2 sends frames between requests too, so bytes there need not be a head.
    is_http2: AtomicBool,
    seen_bytes: AtomicBool,
}

/// What is wrong with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// No request for too long.
    Idle,
    /// A head that does not get complete.
    SlowHead,
}

/// Holds a request in flight until its answer was sent or given up.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
            seen_bytes: AtomicBool::new(false),
        })
    }

    /// A request begins.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        InFlight(self.clone())
    }

    /// Looks at the connection at `now`.
    pub(super) fn verdict(&self, now: Instant, head: Duration, idle: Duration) -> Verdict {
        if self.in_flight.load(Relaxed) > 0 {
            return Verdict::Fine;
        }
        let now = self.milliseconds(now);
        let waited = |since: u64| Duration::from_millis(now.saturating_sub(since));
        match self.head_since.load(Relaxed) {
            0 if waited(self.idle_since.load(Relaxed)) >= idle => Verdict::Idle,
            since if since > 0 && waited(since) >= head => Verdict::SlowHead,
            _ => Verdict::Fine,
        }
    }

    fn saw(&self, bytes: &[u8]) {
        if !self.seen_bytes.swap(true, Relaxed) && bytes.starts_with(b"PRI ") {
            self.is_http2.store(true, Relaxed);
        }
        let is_head = self.in_flight.load(Relaxed) == 0 && !self.is_http2.load(Relaxed);
        if is_head && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.milliseconds(Instant::now()).max(1), Relaxed);
        }
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.milliseconds(Instant::now()), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A transport that notes when bytes come.
pub(super) struct Watched<T> {
    pub(super) inner: T,
    pub(super) activity: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        match buffer.filled().get(before..) {
            Some(bytes) if !bytes.is_empty() => self.activity.saw(bytes),
            _ => {}
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(60);

    #[track_caller]
    fn check(activity: &Activity, after: u64, expected: Verdict) {
        let now = activity.start + Duration::from_secs(after);
        assert_eq!(activity.verdict(now, HEAD, IDLE), expected);
    }

    #[test]
    fn idle_connections_and_slow_heads_are_told_apart() {
        let activity = Activity::new();
        check(&activity, 59, Verdict::Fine);
        check(&activity, 61, Verdict::Idle);
        activity.saw(b"GET /");
        check(&activity, 0, Verdict::Fine);
        check(&activity, 2, Verdict::SlowHead);
        let request = activity.enter();
        check(&activity, 999, Verdict::Fine);
        drop(request);
        check(&activity, 2, Verdict::Fine);
        check(&activity, 62, Verdict::Idle);
    }

    #[test]
    fn frames_of_http2_are_no_head() {
        let activity = Activity::new();
        activity.saw(b"PRI * HTTP/2.0");
        activity.saw(b"ping");
        check(&activity, 2, Verdict::Fine);
        check(&activity, 61, Verdict::Idle);
    }
}
