//! Sends a REST request to a replica, and to another one where the first fails in time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::RETRY_AFTER;
use smallvec::SmallVec;

use crate::body::{Body, Source, Stop};
use crate::call::{Call, deadline_exceeded};
use crate::choose::random;
use crate::gateway::Gateway;
use crate::http1::{Decoder, ResponseHead, Step};
use crate::mirror::MIRROR_LIMIT;
use crate::refusal::{Reason, Refusal};
use crate::state::EndpointState;
use crate::upstream::{Connection, Failure, Limits, Line, exchange};
use crate::visit::{Ending, Visit};

/// The answer of a replica whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) rest: AnswerBody,
}

/// Where the body of an answer comes from.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    connection: Connection,
    decoder: Decoder,
    pub(crate) visit: Visit,
    ending: Ending,
    /// The connection can carry another request once the body is read.
    reusable: bool,
}

/// The replica broke off in the middle of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the replica broke off in the middle of its answer")]
pub(crate) struct BrokenOff;

impl AnswerBody {
    /// How many bytes of the body are at the front of [`Self::bytes`]; `None` at the end.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<usize>, BrokenOff>> {
        loop {
            match self.decoder.step(&mut self.connection.wire.input) {
                Ok(Step::Data(length)) => return Poll::Ready(Ok(Some(length))),
                Ok(Step::End) => return Poll::Ready(Ok(None)),
                Ok(Step::NeedMore) => match ready!(self.connection.wire.poll_fill_long(cx)) {
                    Ok(0) if self.decoder.ends_with_connection() => return Poll::Ready(Ok(None)),
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                },
                Err(_) => break,
            }
        }
        self.ending = Ending::Failed;
        Poll::Ready(Err(BrokenOff))
    }

    pub(crate) fn bytes(&mut self) -> &mut bytes::BytesMut {
        &mut self.connection.wire.input
    }

    /// Ends the visit; keeps the connection if the body was read to its end.
    pub(crate) fn finish(self, gateway: &Gateway) {
        let Self { connection, decoder, visit, ending, reusable } = self;
        if reusable && decoder.is_end() && !visit.endpoint.is_leaving() {
            let endpoint = &visit.endpoint;
            endpoint.rest.put(connection, gateway.settings.upstream_idle_max, Instant::now());
            // It may have left just now, after its pool was cleared.
            if endpoint.is_leaving() {
                endpoint.rest.clear();
            }
        }
        let failed = ending == Ending::Failed;
        visit.end(if failed || decoder.is_end() || decoder.ends_with_connection() {
            ending
        } else {
            Ending::Unknown
        });
    }
}

/// Why an attempt gave no answer.
pub(crate) enum Tried {
    /// Nothing was sent.
    NotConnected,
    /// The connection ended; `stale` if that was to be expected of a kept one.
    Closed {
        stale: bool,
    },
    /// What came is no HTTP.
    Malformed,
    Stop(Stop),
}

impl Gateway {
    /// Forwards a call until a replica's answer begins.
    pub(crate) async fn forward<S: Source>(
        self: &Arc<Self>,
        call: &mut Call,
        body: &mut Body<S>,
    ) -> Result<Answer, Stop> {
        let mut avoid: SmallVec<[Arc<EndpointState>; 2]> = SmallVec::new();
        let mut attempts = 1;
        loop {
            let visit = self.acquire_while_there(call, body, &avoid).await?;
            let endpoint = visit.endpoint.clone();
            let tried = match self.attempt(call, body, visit).await {
                Ok(answer) => {
                    // A replica that is busy or going away: another one may have room.
                    let elsewhere = answer.head.status == StatusCode::SERVICE_UNAVAILABLE
                        && has_other(call, &avoid, &endpoint)
                        && attempts < self.settings.max_attempts
                        && body.is_repeatable();
                    if !elsewhere || !self.may_retry(call) {
                        self.mirror(call, &answer.rest.visit, body.whole(MIRROR_LIMIT));
                        return Ok(answer);
                    }
                    let AnswerBody { visit, ending, .. } = answer.rest;
                    visit.end(ending);
                    attempts += 1;
                    avoid.push(endpoint);
                    continue;
                }
                Err(tried) => tried,
            };
            let (allowed, free) = match tried {
                Tried::Stop(stop) => return Err(stop),
                Tried::NotConnected => (true, false),
                Tried::Closed { stale } => (call.repeatable, stale),
                Tried::Malformed => (call.repeatable, false),
            };
            let possible = allowed && body.is_repeatable() && attempts < self.settings.max_attempts;
            if !possible || !(free || self.may_retry(call)) {
                return Err(broken_gateway().into());
            }
            attempts += 1;
            let other = has_other(call, &avoid, &endpoint);
            avoid.push(endpoint);
            if !other && !free {
                self.back_off(call, body, attempts).await?;
            }
        }
    }

    /// Waits for a replica as long as the client does.
    async fn acquire_while_there<S: Source>(
        &self,
        call: &mut Call,
        body: &mut Body<S>,
        avoid: &[Arc<EndpointState>],
    ) -> Result<Visit, Stop> {
        let mut acquire = pin!(self.acquire(call, avoid));
        poll_fn(|cx| match acquire.as_mut().poll(cx) {
            Poll::Ready(visit) => Poll::Ready(visit.map_err(Stop::from)),
            Poll::Pending => body.source.poll_gone(cx).map(|()| Err(Stop::ClientGone)),
        })
        .await
    }

    pub(crate) async fn attempt<S: Source>(
        &self,
        call: &Call,
        body: &mut Body<S>,
        mut visit: Visit,
    ) -> Result<Answer, Tried> {
        let endpoint = visit.endpoint.clone();
        let kept = endpoint.rest.take(self.settings.upstream_idle, visit.started);
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let timeout = self.settings.connect_timeout;
                match Connection::open(endpoint.address, timeout).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        tracing::debug!(%error, address = %endpoint.address, "cannot connect");
                        call.service.counts.connect_errors.fetch_add(1, Ordering::Relaxed);
                        visit.end(Ending::Failed);
                        return Err(Tried::NotConnected);
                    }
                }
            }
        };
        let line = Line { method: &call.method, path: &call.path, headers: &call.headers };
        let limits = Limits { deadline: call.deadline, stall: self.settings.stall_timeout };
        match exchange(&mut connection, line, body, limits).await {
            Ok(head) => {
                visit.head_came(Instant::now());
                let sent = body.source.is_end() && connection.wire.output.is_empty();
                let decoder = Decoder::new(head.framing);
                let reusable = sent && head.keep_alive;
                let ending = ending_of(&head);
                Ok(Answer {
                    head,
                    rest: AnswerBody { connection, decoder, visit, ending, reusable },
                })
            }
            Err(Failure::Closed) => {
                let stale = connection.reused && connection.wire.input.is_empty();
                visit.end(if stale { Ending::Unknown } else { Ending::Failed });
                Err(Tried::Closed { stale })
            }
            Err(Failure::Malformed) => {
                visit.end(Ending::Failed);
                Err(Tried::Malformed)
            }
            Err(Failure::Deadline) => {
                visit.end(Ending::Late);
                Err(Tried::Stop(deadline_exceeded().into()))
            }
            Err(Failure::ClientStalled) => {
                let refusal = Refusal::new(Reason::ClientTimeout, "the request body did not come");
                Err(Tried::Stop(refusal.into()))
            }
            Err(Failure::Client(error)) => Err(Tried::Stop(error.into())),
        }
    }

    /// Takes a retry out of the service's budget.
    pub(crate) fn may_retry(&self, call: &Call) -> bool {
        let (ratio, minimum) = (self.settings.retry_ratio, self.settings.retry_min_per_second);
        let paid = call.service.budget.withdraw(ratio, minimum, Instant::now());
        let counts = &call.service.counts;
        let count = if paid { &counts.retries } else { &counts.retries_denied };
        count.fetch_add(1, Ordering::Relaxed);
        paid
    }

    /// Waits before a replica is tried that has just failed: 25 ms, then 100 ms, each ± a half. A
    /// replica that was killed leaves the table within this time, and the request is then held.
    async fn back_off<S: Source>(
        &self,
        call: &Call,
        body: &mut Body<S>,
        attempts: u32,
    ) -> Result<(), Stop> {
        let mut sleep = pin!(tokio::time::sleep_until(back_off_until(call, attempts).into()));
        poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => body.source.poll_gone(cx).map(|()| Err(Stop::ClientGone)),
        })
        .await
    }
}

/// When the next attempt may start, where only the failed replica is left.
pub(crate) fn back_off_until(call: &Call, attempts: u32) -> Instant {
    let base = Duration::from_millis(25 * 4u64.pow(attempts.saturating_sub(2).min(3)));
    let jitter = 0.5 + (random() >> 11) as f64 / (1u64 << 53) as f64;
    (Instant::now() + base.mul_f64(jitter)).min(call.deadline)
}

pub(crate) fn has_other(
    call: &Call,
    avoid: &[Arc<EndpointState>],
    failed: &Arc<EndpointState>,
) -> bool {
    call.service.config.load().endpoints().any(|other| {
        !Arc::ptr_eq(other, failed) && !avoid.iter().any(|avoided| Arc::ptr_eq(avoided, other))
    })
}

pub(crate) fn broken_gateway() -> Refusal {
    Refusal::new(Reason::BadGateway, "the replica could not be reached or broke off")
}

fn ending_of(head: &ResponseHead) -> Ending {
    match head.status {
        // The model server says so for a batch queue that is full.
        StatusCode::SERVICE_UNAVAILABLE if head.headers.contains_key(RETRY_AFTER) => {
            Ending::Refused
        }
        StatusCode::NOT_IMPLEMENTED => Ending::Answered,
        status if status.is_server_error() => Ending::Failed,
        _ => Ending::Answered,
    }
}
