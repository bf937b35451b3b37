//! Copies of requests to a revision that is only watched.
//!
//! A mirror is never waited for and never delays a request: its body is what the request kept
//! anyway, and where no copy can be made at once, none is made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue};

use crate::body::{Body, Source, SourceError};
use crate::call::Call;
use crate::choose::{random, sample};
use crate::forward::Answer;
use crate::gateway::Gateway;
use crate::http1::{Framing, Timer};
use crate::replay::Kept;
use crate::visit::{Visit, pick_of};

/// Tells the mirror that nobody waits for its answer.
const X_MIRROR: HeaderName = HeaderName::from_static("x-trainyard-mirror");

/// Bytes of the largest body that is copied. A copy outlives its request, so it is held apart from
/// the pool of replays: with [`crate::Settings::max_mirrored`] copies, at most 64 MiB.
pub(crate) const MIRROR_LIMIT: usize = 1 << 20;

impl Gateway {
    /// Where to send a copy of a call that goes to `primary`, if one is to be made.
    pub(crate) fn mirror_visit(&self, call: &Call, primary: &Visit) -> Option<MirrorVisit> {
        let config = call.service.config.load();
        let mirror = config.mirror.as_ref()?;
        let revision = config.revisions.get(mirror.revision)?;
        if Arc::ptr_eq(&revision.state, &primary.revision) || !sample(mirror.share, random()) {
            return None;
        }
        let permit = self.mirrors.clone().try_acquire_owned().ok();
        let visit = permit.and_then(|permit| Some((pick_of(&call.service, revision)?, permit)));
        let counts = &call.service.counts;
        let count = if visit.is_some() { &counts.mirrored } else { &counts.mirrors_dropped };
        count.fetch_add(1, Ordering::Relaxed);
        visit.map(|(visit, permit)| MirrorVisit { visit, permit })
    }

    /// Sends a copy of a request whose `body` is whole.
    pub(crate) fn mirror(self: &Arc<Self>, call: &Call, primary: &Visit, body: Option<&[Bytes]>) {
        if call.service.config.load().mirror.is_none() {
            return;
        }
        // What may not be done twice is not done twice here either.
        let Some(chunks) = body.filter(|_| call.repeatable) else { return };
        let Some(MirrorVisit { visit, permit }) = self.mirror_visit(call, primary) else { return };
        let mut copy = call.copy(Instant::now() + self.settings.response_timeout);
        copy.headers.insert(X_MIRROR, HeaderValue::from_static("1"));
        let mut body =
            Body::new(Canned::new(chunks.to_vec(), copy.deadline), Kept::new(0, &self.replays));
        let gateway = self.clone();
        self.tasks.spawn(async move {
            if let Ok(answer) = gateway.attempt(&copy, &mut body, visit).await {
                gateway.discard(answer, copy.deadline).await;
            }
            drop(permit);
        });
    }

    /// Reads an answer to its end for nobody.
    async fn discard(&self, mut answer: Answer, deadline: Instant) {
        let mut timer = Timer::new(deadline);
        let read = std::future::poll_fn(|cx| {
            loop {
                match answer.rest.poll_data(cx) {
                    Poll::Ready(Ok(Some(length))) => answer.rest.bytes().advance(length),
                    Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return timer.poll_due(cx, deadline),
                }
            }
        });
        read.await;
        answer.rest.finish(self);
    }
}

/// A replica chosen for a copy, and the place in the gateway's budget of copies.
#[derive(Debug)]
pub(crate) struct MirrorVisit {
    pub(crate) visit: Visit,
    pub(crate) permit: tokio::sync::OwnedSemaphorePermit,
}

/// A body that is there already, from no client.
#[derive(Debug)]
pub(crate) struct Canned {
    chunks: std::collections::VecDeque<Bytes>,
    length: u64,
    timer: Timer,
}

impl Canned {
    pub(crate) fn new(chunks: Vec<Bytes>, due: Instant) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks: chunks.into(), length, timer: Timer::new(due) }
    }
}

impl Source for Canned {
    fn framing(&self) -> Framing {
        if self.length == 0 { Framing::Empty } else { Framing::Length(self.length) }
    }

    fn is_end(&self) -> bool {
        self.chunks.is_empty()
    }

    fn ready_chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        Ok(self.chunks.pop_front())
    }

    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, SourceError>> {
        Poll::Ready(Ok(self.chunks.pop_front()))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_due(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        self.timer.poll_due(cx, due)
    }
}
