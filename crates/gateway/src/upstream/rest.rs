//! HTTP/1.1 to replicas: a pool of kept connections for each, and one exchange over one of them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use tokio::net::TcpStream;

use crate::body::{Body, Source, SourceError};
use crate::http1::{
    Framing, ResponseHead, Wire, read_response, write_chunk, write_headers, write_last_chunk,
};

/// Of a body that is there already, so much goes out in one write with the head.
const FIRST_WRITE: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) wire: Wire,
    /// It has carried a request before, so the replica may have closed it meanwhile.
    pub(crate) reused: bool,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { wire: Wire::new(stream), reused: false })
    }
}

/// Idle connections to one replica, the last used first.
#[derive(Debug, Default)]
pub(crate) struct RestPool {
    idle: Mutex<VecDeque<(Connection, Instant)>>,
}

impl RestPool {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Connection, Instant)>> {
        // The guarded code cannot panic half way, so a poisoned lock holds a sound queue.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept connection that is not known to be closed.
    pub(crate) fn take(&self, max_idle: Duration, now: Instant) -> Option<Connection> {
        loop {
            let (connection, since) = self.lock().pop_back()?;
            let fresh = now.saturating_duration_since(since) < max_idle;
            if fresh && !connection.wire.is_stale() {
                return Some(connection);
            }
        }
    }

    pub(crate) fn put(&self, mut connection: Connection, max: usize, now: Instant) {
        connection.reused = true;
        connection.wire.slim();
        let mut idle = self.lock();
        if idle.len() < max {
            idle.push_back((connection, now));
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, max_idle: Duration, now: Instant) {
        let mut idle = self.lock();
        while idle.front().is_some_and(|(connection, since)| {
            now.saturating_duration_since(*since) >= max_idle || connection.wire.is_stale()
        }) {
            idle.pop_front();
        }
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}

/// What stands in the head of a request besides its length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a PathAndQuery,
    pub(crate) headers: &'a HeaderMap,
}

/// Why an exchange gave no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The replica closed, or broke the connection, before its answer.
    Closed,
    /// What came is no HTTP.
    Malformed,
    Deadline,
    /// The client stopped sending its body.
    ClientStalled,
    Client(SourceError),
}

/// How long an exchange may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For the head of the answer.
    pub(crate) deadline: Instant,
    /// Between two parts of the client's body.
    pub(crate) stall: Duration,
}

/// Sends a request and reads the head of its answer, while the body is still being sent if need be.
///
/// The connection can carry another request only if the body was sent whole by then.
pub(crate) async fn exchange<S: Source>(
    connection: &mut Connection,
    line: Line<'_>,
    body: &mut Body<S>,
    limits: Limits,
) -> Result<ResponseHead, Failure> {
    let framing = body.source.framing();
    start(&mut connection.wire, line, body, framing).map_err(Failure::Client)?;
    let mut exchange = Exchange {
        wire: &mut connection.wire,
        to_head: line.method == Method::HEAD,
        framing,
        broken: false,
        progress: None,
    };
    poll_fn(|cx| exchange.poll(cx, body, limits)).await
}

/// Writes the head and what is there of the body to the buffer.
fn start<S: Source>(
    wire: &mut Wire,
    line: Line<'_>,
    body: &mut Body<S>,
    framing: Framing,
) -> Result<(), SourceError> {
    let out = &mut wire.output;
    out.reserve(512);
    out.put_slice(line.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(line.path.as_str().as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    // A request of a method with a body says that it has none.
    let written = match framing {
        Framing::Empty if *line.method == Method::POST || *line.method == Method::PUT => {
            Framing::Length(0)
        }
        framing => framing,
    };
    write_headers(out, line.headers, written);
    out.put_slice(b"\r\n");
    for chunk in body.kept() {
        write_part(wire, framing, chunk);
    }
    while wire.output.len() < FIRST_WRITE
        && let Some(chunk) = body.source.ready_chunk()?
    {
        write_part(wire, framing, &chunk);
        body.keep(&chunk);
    }
    if body.source.is_end() && framing == Framing::Chunked {
        write_last_chunk(&mut wire.output);
    }
    Ok(())
}

fn write_part(wire: &mut Wire, framing: Framing, chunk: &Bytes) {
    match framing {
        Framing::Chunked => write_chunk(&mut wire.output, chunk),
        _ => wire.output.extend_from_slice(chunk),
    }
}

struct Exchange<'a> {
    wire: &'a mut Wire,
    to_head: bool,
    framing: Framing,
    /// Nothing more can be sent, but an answer may still be there to read.
    broken: bool,
    /// When the client last sent a part, once it was waited for.
    progress: Option<Instant>,
}

impl Exchange<'_> {
    fn poll<S: Source>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Body<S>,
        limits: Limits,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            if !self.broken
                && let Poll::Ready(Err(_)) = self.wire.poll_flush(cx)
            {
                // The replica may have answered before it closed; that is read below.
                self.broken = true;
                self.wire.output.clear();
            }
            let sending = !self.broken && !body.source.is_end();
            if sending && self.wire.output.is_empty() {
                match body.source.poll_chunk(cx) {
                    Poll::Ready(Ok(Some(chunk))) => {
                        self.progress = Some(Instant::now());
                        write_part(self.wire, self.framing, &chunk);
                        body.keep(&chunk);
                        if body.source.is_end() && self.framing == Framing::Chunked {
                            write_last_chunk(&mut self.wire.output);
                        }
                        continue;
                    }
                    Poll::Ready(Ok(None)) => {
                        if self.framing == Framing::Chunked {
                            write_last_chunk(&mut self.wire.output);
                        }
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Client(error))),
                    Poll::Pending => {
                        self.progress.get_or_insert_with(Instant::now);
                    }
                }
            }
            match self.wire.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failure::Closed)),
                Poll::Ready(Ok(_)) => match self.read() {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => continue,
                    Err(failure) => return Poll::Ready(Err(failure)),
                },
                Poll::Pending => {}
            }
            if !sending && body.source.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Failure::Client(SourceError::Gone)));
            }
            let waits_for_client = sending && self.wire.output.is_empty();
            let stalled = self.progress.filter(|_| waits_for_client).map(|at| at + limits.stall);
            let due = stalled.map_or(limits.deadline, |stalled| stalled.min(limits.deadline));
            return body.source.poll_due(cx, due).map(|()| {
                let by_client = due < limits.deadline;
                Err(if by_client { Failure::ClientStalled } else { Failure::Deadline })
            });
        }
    }

    /// The final head, once it is there; interim ones are passed over.
    fn read(&mut self) -> Result<Option<ResponseHead>, Failure> {
        loop {
            let head = read_response(&mut self.wire.input, self.to_head);
            match head.map_err(|_| Failure::Malformed)? {
                // Upgrades are never asked for.
                Some(head) if head.status.as_u16() == 101 => return Err(Failure::Malformed),
                Some(head) if head.status.is_informational() => {}
                other => return Ok(other),
            }
        }
    }
}
