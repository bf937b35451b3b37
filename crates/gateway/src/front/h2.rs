//! One client that speaks HTTP/2: REST and gRPC, many at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::body::{FrontBody, RestBody};
use super::rewind::Rewind;
use super::serve::Shutdown;
use crate::body::{Body, Source, SourceError};
use crate::call::{Peer, X_HELD};
use crate::gateway::Gateway;
use crate::grpc::is_grpc;
use crate::http1::{Framing, Timer, Wire};
use crate::record::Record;
use crate::rest::{Reply, RestHead};

/// Calls at once on one connection. With the send buffer it bounds what a client that does not
/// read can make the gateway hold: 16 MiB.
const STREAMS: u32 = 256;
const SEND_BUFFER: usize = 64 << 10;
/// Tensors are large: with HTTP/2's 64 KiB each would wait for many round trips.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Finds clients that vanished without closing.
const PING_EVERY: Duration = Duration::from_secs(60);

pub(super) async fn serve(gateway: Arc<Gateway>, wire: Wire, peer: Peer, shutdown: &Shutdown) {
    let activity = Arc::new(Activity::new());
    let (idle, stall) = (gateway.settings.idle_timeout, gateway.settings.stall_timeout);
    let service = {
        let activity = activity.clone();
        hyper::service::service_fn(move |request| {
            let turn = Turn::new(&activity);
            let (gateway, peer) = (gateway.clone(), peer.clone());
            async move {
                let (response, record) = recorded(gateway, request, peer).await;
                Ok::<_, Infallible>(response.map(|body| Watched { body, turn, record }))
            }
        })
    };
    let io = TokioIo::new(Rewind::new(wire.input, wire.stream));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(stall)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let mut look = tokio::time::interval(idle.min(stall) / 4 + Duration::from_millis(1));
    let mut ending = false;
    loop {
        let result = tokio::select! {
            result = connection.as_mut() => result,
            // GOAWAY: calls under way end, new ones go elsewhere. Nothing need be waited for.
            () = shutdown.stop.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            _ = look.tick() => {
                let quiet = activity.quiet();
                if activity.owed.load(Ordering::Relaxed) > 0 && stall <= quiet {
                    tracing::debug!("a client that reads no answers is cut off");
                    return;
                }
                if activity.turns.load(Ordering::Relaxed) == 0 && idle <= quiet && !ending {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                continue;
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a client's connection ended");
        }
        return;
    }
}

/// What a connection is doing, to find clients that do nothing, or do not read.
#[derive(Debug)]
struct Activity {
    began: Instant,
    /// Requests and their answers under way.
    turns: AtomicUsize,
    /// Of these, how many have given bytes that the client has made no room for since.
    owed: AtomicUsize,
    /// When anything moved last, in milliseconds from `began`.
    moved: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            turns: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
        }
    }

    fn moves(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(millis, Ordering::Relaxed);
    }

    /// For how long nothing has moved.
    fn quiet(&self) -> Duration {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(moved)
    }
}

/// One request and its answer.
#[derive(Debug)]
struct Turn {
    activity: Arc<Activity>,
    owes: bool,
}

impl Turn {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.turns.fetch_add(1, Ordering::Relaxed);
        activity.moves();
        Self { activity: activity.clone(), owes: false }
    }

    fn owes(&mut self, owes: bool) {
        if owes && !self.owes {
            self.activity.owed.fetch_add(1, Ordering::Relaxed);
        } else if self.owes && !owes {
            self.activity.owed.fetch_sub(1, Ordering::Relaxed);
        }
        self.owes = owes;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.owes(false);
        self.activity.moves();
        self.activity.turns.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer. hyper asks for more of it once the client has room.
struct Watched {
    body: FrontBody,
    turn: Turn,
    record: Option<Box<Record>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = super::body::FrontError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.turn.activity.moves();
        self.turn.owes(frame.is_ready());
        if let Some(record) = &mut self.record
            && let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            record.ended(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

async fn recorded(
    gateway: Arc<Gateway>,
    mut request: Request<Incoming>,
    peer: Peer,
) -> (Response<FrontBody>, Option<Box<Record>>) {
    let mut headers = std::mem::take(request.headers_mut());
    let (version, method, path) = (request.version(), request.method(), request.uri().path());
    let mut record = gateway.record(version, method, path, &mut headers, &peer);
    *request.headers_mut() = headers;
    let response = if is_grpc(request.headers()) {
        gateway.grpc(request, &peer, record.as_deref_mut()).await
    } else {
        answer(gateway, request, peer, record.as_deref_mut()).await
    };
    if let Some(record) = &mut record {
        record.answered(response.status(), response.headers());
    }
    (response, record)
}

async fn answer(
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
    peer: Peer,
    record: Option<&mut Record>,
) -> Response<FrontBody> {
    let (mut head, incoming) = request.into_parts();
    if let Some(authority) = head.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(HOST, host);
    }
    // Cookies may come in parts over HTTP/2, and go on as one.
    join_cookies(&mut head.headers);
    let root = || http::uri::PathAndQuery::from_static("/");
    let source = H2Source {
        framing: framing_of(&head.headers, &incoming),
        ended: incoming.is_end_stream(),
        incoming,
        timer: Timer::new(Instant::now() + gateway.settings.stall_timeout),
    };
    let mut body = Body::new(source, gateway.keeps());
    let head = RestHead {
        method: head.method,
        target: head.uri.path_and_query().cloned().unwrap_or_else(root),
        headers: head.headers,
        started: Instant::now(),
    };
    match gateway.rest(head, &peer, &mut body).await {
        Reply::Own(response) => response.map(|body| FrontBody::Bytes(Some(body.into()))),
        // Nobody reads it.
        Reply::Gone => Response::default(),
        Reply::Forwarded(call, answer) => {
            if let Some(record) = record {
                record.served_by(&call);
            }
            let mut headers = answer.head.headers;
            for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
                headers.remove(name);
            }
            for name in ["keep-alive", "proxy-connection"] {
                headers.remove(name);
            }
            if let Some(held) = call.held {
                let millis = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
                headers.insert(X_HELD, HeaderValue::from(millis));
            }
            let mut response =
                Response::new(FrontBody::Rest(Box::new(RestBody::new(gateway, answer.rest, call))));
            *response.status_mut() = answer.head.status;
            *response.headers_mut() = headers;
            response
        }
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<&[u8]> =
        headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..]))
    {
        headers.insert(http::header::COOKIE, joined);
    }
}

fn framing_of(headers: &HeaderMap, incoming: &Incoming) -> Framing {
    if incoming.is_end_stream() {
        return Framing::Empty;
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // The h2 crate resets streams whose length is not what they declared.
    length.map_or(Framing::Chunked, Framing::Length)
}

/// The body of a REST request over HTTP/2. hyper drops the whole request when the client goes.
struct H2Source {
    incoming: Incoming,
    framing: Framing,
    ended: bool,
    timer: Timer,
}

impl Source for H2Source {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn is_end(&self) -> bool {
        self.ended
    }

    fn ready_chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, SourceError>> {
        while !self.ended {
            match std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(chunk) = frame.into_data() else { continue };
                    self.ended = self.incoming.is_end_stream();
                    if !chunk.is_empty() {
                        return Poll::Ready(Ok(Some(chunk)));
                    }
                }
                Some(Err(_)) => return Poll::Ready(Err(SourceError::Gone)),
                None => self.ended = true,
            }
        }
        Poll::Ready(Ok(None))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_due(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        self.timer.poll_due(cx, due)
    }
}
