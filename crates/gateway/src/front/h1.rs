//! One client that speaks HTTP/1.1: its requests, one after the other.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode, Version};

use super::serve::Shutdown;
use crate::body::{Body, Source, SourceError};
use crate::call::{Call, Peer};
use crate::forward::{Answer, AnswerBody};
use crate::gateway::Gateway;
use crate::http1::{
    BadHead, Decoder, Framing, RequestHead, Step, Timer, Wire, read_request, spare, write_chunk,
    write_headers, write_last_chunk,
};
use crate::refusal::{Reason, Refusal, Shape};
use crate::rest::{Reply, RestHead};
use crate::revision::Code;

/// Of an answer, so much is collected before it is written; a client that does not read holds so
/// much and what the system buffers.
const OUTPUT: usize = 64 << 10;
/// Of requests sent ahead of their turn, so much is read.
const AHEAD: usize = 64 << 10;
/// After a refusal, what the client is still sending is read for so long, or so much of it: a
/// connection that is closed with unread bytes takes the answer with it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

pub(super) async fn serve(
    gateway: &Arc<Gateway>,
    wire: Wire,
    timer: Timer,
    peer: Peer,
    shutdown: &Shutdown,
) {
    let mut client = Client { wire, timer, gateway, shutdown };
    let mut closing = pin!(shutdown.closing.cancelled());
    loop {
        let after = match client.next_head(closing.as_mut()).await {
            Ok(Some(head)) => client.answer(head, &peer).await,
            Ok(None) => return,
            Err(refusal) => {
                gateway.own_codes.note(Code::Http(refusal.reason.status()));
                client.write_own(&refusal.response(Shape::Rest), Manner::default());
                if client.flush().await { After::Linger } else { After::Close }
            }
        };
        match after {
            After::Next => client.wire.slim(),
            After::Close => return,
            After::Linger => return client.linger().await,
        }
    }
}

/// What becomes of the connection.
enum After {
    Next,
    Close,
    /// The client may still be sending.
    Linger,
}

/// How an answer to one request is written. By default it is the last one on its connection.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    /// The request was a HEAD: the body is left out.
    to_head: bool,
    /// The client knows no chunks.
    http_10: bool,
    keep: bool,
}

struct Client<'a> {
    wire: Wire,
    timer: Timer,
    gateway: &'a Arc<Gateway>,
    shutdown: &'a Shutdown,
}

impl Client<'_> {
    /// The next request; `None` if the client has finished, or has been idle for too long.
    async fn next_head(
        &mut self,
        mut closing: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<RequestHead>, Refusal> {
        let settings = &self.gateway.settings;
        let idle_due = Instant::now() + settings.idle_timeout;
        let mut head_due = None;
        poll_fn(|cx| {
            loop {
                if !self.wire.input.is_empty() {
                    match read_request(&mut self.wire.input) {
                        Ok(Some(head)) => return Poll::Ready(Ok(Some(head))),
                        Ok(None) => {
                            let due = || Instant::now() + settings.header_timeout;
                            head_due.get_or_insert_with(due);
                        }
                        Err(bad) => return Poll::Ready(Err(refusal_of(bad))),
                    }
                }
                match self.wire.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(_)) => continue,
                    Poll::Pending => {}
                }
                let Some(due) = head_due else {
                    if closing.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Ok(None));
                    }
                    return self.timer.poll_due(cx, idle_due).map(|()| Ok(None));
                };
                return self.timer.poll_due(cx, due).map(|()| {
                    Err(Refusal::new(Reason::ClientTimeout, "the request's head did not come"))
                });
            }
        })
        .await
    }

    async fn answer(&mut self, head: RequestHead, peer: &Peer) -> After {
        let gateway = self.gateway;
        let RequestHead { method, target, http_10, mut headers, framing, keep_alive, .. } = head;
        let version = if http_10 { Version::HTTP_10 } else { Version::HTTP_11 };
        let mut record = gateway.record(version, &method, target.path(), &mut headers, peer);
        let to_head = method == Method::HEAD;
        let source = H1Source {
            wire: &mut self.wire,
            timer: &mut self.timer,
            decoder: Decoder::new(framing),
            framing,
            awaits_continue: head.expects_continue,
        };
        let mut body = Body::new(source, gateway.keeps());
        let head = RestHead { method, target, headers, started: Instant::now() };
        let reply = gateway.rest(head, peer, &mut body).await;
        let read = body.source.is_read();
        drop(body);
        let keep = keep_alive && read && !self.shutdown.draining.load(Ordering::Relaxed);
        let manner = Manner { to_head, http_10, keep };
        let kept = match reply {
            Reply::Gone => return After::Close,
            Reply::Own(response) => {
                if let Some(record) = &mut record {
                    record.answered(response.status(), response.headers());
                }
                self.write_own(&response, manner);
                self.flush().await.then_some(keep)
            }
            Reply::Forwarded(call, answer) => {
                if let Some(record) = &mut record {
                    record.served_by(&call);
                    record.answered(answer.head.status, &answer.head.headers);
                }
                let kept = self.relay(&call, answer, manner).await;
                spare::put(call.headers);
                kept
            }
        };
        match kept {
            Some(true) => After::Next,
            Some(false) if read => After::Close,
            Some(false) => After::Linger,
            None => After::Close,
        }
    }

    fn write_start(&mut self, status: StatusCode, manner: Manner) {
        let out = &mut self.wire.output;
        out.reserve(512);
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(status.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.put_slice(b"\r\n");
        if !manner.keep {
            out.put_slice(b"connection: close\r\n");
        } else if manner.http_10 {
            out.put_slice(b"connection: keep-alive\r\n");
        }
    }

    fn write_own(&mut self, response: &Response<Vec<u8>>, manner: Manner) {
        self.write_start(response.status(), manner);
        let out = &mut self.wire.output;
        let body = response.body();
        write_headers(out, response.headers(), Framing::Length(body.len() as u64));
        out.put_slice(b"\r\n");
        if !manner.to_head {
            out.put_slice(body);
        }
    }

    /// Passes a replica's answer on. Whether the connection stays; `None` if it broke.
    async fn relay(&mut self, call: &Call, answer: Answer, mut manner: Manner) -> Option<bool> {
        let Answer { head, rest } = answer;
        let framing = match head.framing {
            Framing::Chunked | Framing::UntilClose if manner.http_10 => {
                manner.keep = false;
                Framing::UntilClose
            }
            Framing::UntilClose => Framing::Chunked,
            framing => framing,
        };
        self.write_start(head.status, manner);
        let out = &mut self.wire.output;
        if let Some(held) = call.held {
            let text = format!("{}: {}\r\n", crate::call::X_HELD, held.as_millis());
            out.put_slice(text.as_bytes());
        }
        write_headers(out, &head.headers, framing);
        // The length of what a GET would have got.
        if head.framing == Framing::Empty
            && let Some(length) = head.headers.get(CONTENT_LENGTH)
            && (manner.to_head || head.status == StatusCode::NOT_MODIFIED)
        {
            out.put_slice(b"content-length: ");
            out.put_slice(length.as_bytes());
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"\r\n");
        spare::put(head.headers);
        let chunked = framing == Framing::Chunked;
        let mut relay =
            Relay { rest: Some(rest), chunked, stalled: None, quiet: None, broken: false };
        poll_fn(|cx| relay.poll(cx, &mut self.wire, &mut self.timer, self.gateway)).await?;
        Some(manner.keep)
    }

    /// Writes what is there to write; false if the client does not take it.
    async fn flush(&mut self) -> bool {
        let due = Instant::now() + self.gateway.settings.stall_timeout;
        poll_fn(|cx| match self.wire.poll_flush(cx) {
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
            Poll::Pending => self.timer.poll_due(cx, due).map(|()| false),
        })
        .await
    }

    /// Reads what the client is still sending, so that it gets to read the answer.
    async fn linger(&mut self) {
        use tokio::io::AsyncWriteExt;
        if self.wire.stream.shutdown().await.is_err() {
            return;
        }
        let due = Instant::now() + LINGER;
        let mut seen = 0;
        poll_fn(|cx| {
            loop {
                self.wire.input.clear();
                match self.wire.poll_fill(cx) {
                    Poll::Ready(Ok(length)) if length > 0 && seen < LINGER_BYTES => seen += length,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll_due(cx, due),
                }
            }
        })
        .await;
    }
}

fn refusal_of(bad: BadHead) -> Refusal {
    let reason = match bad {
        BadHead::Malformed(_) => Reason::BadRequest,
        BadHead::TooLarge => Reason::HeadTooLarge,
        BadHead::Method => Reason::MethodNotAllowed,
    };
    Refusal::new(reason, bad.to_string())
}

/// A replica's body on its way to the client.
struct Relay {
    rest: Option<AnswerBody>,
    chunked: bool,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
    /// Since when the replica sends nothing.
    quiet: Option<Instant>,
    broken: bool,
}

impl Relay {
    /// Ready with `None` if either side broke.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        timer: &mut Timer,
        gateway: &Gateway,
    ) -> Poll<Option<()>> {
        loop {
            let waits_for_replica = self.fill(cx, &mut wire.output, gateway);
            if self.broken {
                return Poll::Ready(None);
            }
            match wire.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.stalled = None,
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => {
                    let since = *self.stalled.get_or_insert_with(Instant::now);
                    let due = since + gateway.settings.stall_timeout;
                    return timer.poll_due(cx, due).map(|()| None);
                }
            }
            if self.rest.is_none() {
                return Poll::Ready(Some(()));
            }
            if waits_for_replica {
                if poll_gone(wire, cx).is_ready() {
                    return Poll::Ready(None);
                }
                let since = *self.quiet.get_or_insert_with(Instant::now);
                let due = since + gateway.settings.response_timeout;
                ready!(timer.poll_due(cx, due));
                return Poll::Ready(None);
            }
        }
    }

    /// Moves what has come to the output; true if all of that is done and more must come.
    fn fill(&mut self, cx: &mut Context<'_>, out: &mut BytesMut, gateway: &Gateway) -> bool {
        let Some(rest) = &mut self.rest else { return false };
        while out.len() < OUTPUT {
            match rest.poll_data(cx) {
                Poll::Ready(Ok(Some(length))) => {
                    self.quiet = None;
                    let bytes = rest.bytes();
                    let data = bytes.get(..length).unwrap_or_default();
                    if self.chunked {
                        write_chunk(out, data);
                    } else {
                        out.put_slice(data);
                    }
                    bytes.advance(length);
                }
                Poll::Ready(end) => {
                    self.broken = end.is_err();
                    // The replica is free from here on, however slow the client reads.
                    if let Some(rest) = self.rest.take() {
                        rest.finish(gateway);
                    }
                    if self.chunked && !self.broken {
                        write_last_chunk(out);
                    }
                    return false;
                }
                Poll::Pending => return true,
            }
        }
        false
    }
}

/// Ready once the client has closed. Reads what it sends ahead, up to a limit.
fn poll_gone(wire: &mut Wire, cx: &mut Context<'_>) -> Poll<()> {
    while wire.input.len() < AHEAD {
        match ready!(wire.poll_fill(cx)) {
            Ok(0) | Err(_) => return Poll::Ready(()),
            Ok(_) => {}
        }
    }
    Poll::Pending
}

/// The body of a request on a connection.
struct H1Source<'a> {
    wire: &'a mut Wire,
    timer: &'a mut Timer,
    decoder: Decoder,
    framing: Framing,
    /// The client sends its body only once it is told to.
    awaits_continue: bool,
}

impl H1Source<'_> {
    /// Whether the body has been read, or is here and can be passed over.
    fn is_read(&mut self) -> bool {
        loop {
            match self.decoder.step(&mut self.wire.input) {
                Ok(Step::Data(length)) => self.wire.input.advance(length),
                Ok(Step::End) => return true,
                Ok(Step::NeedMore) | Err(_) => return false,
            }
        }
    }
}

impl Source for H1Source<'_> {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn is_end(&self) -> bool {
        self.decoder.is_end()
    }

    fn ready_chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        match self.decoder.step(&mut self.wire.input) {
            Ok(Step::Data(length)) => {
                self.awaits_continue = false;
                Ok(Some(self.wire.input.split_to(length).freeze()))
            }
            Ok(Step::NeedMore | Step::End) => Ok(None),
            Err(bad) => Err(SourceError::Bad(bad.0)),
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, SourceError>> {
        loop {
            if let Some(chunk) = self.ready_chunk()? {
                return Poll::Ready(Ok(Some(chunk)));
            }
            if self.is_end() {
                return Poll::Ready(Ok(None));
            }
            if std::mem::take(&mut self.awaits_continue) {
                self.wire.output.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if ready!(self.wire.poll_flush(cx)).is_err() {
                return Poll::Ready(Err(SourceError::Gone));
            }
            match ready!(self.wire.poll_fill_long(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(SourceError::Gone)),
                Ok(_) => {}
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        poll_gone(self.wire, cx)
    }

    fn poll_due(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        self.timer.poll_due(cx, due)
    }
}
