//! The body of a request on its way to a replica: where it comes from, and what is kept of it.

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::http1::Framing;
use crate::refusal::{Reason, Refusal};

/// A client that sends a body and waits for an answer.
pub(crate) trait Source {
    /// How the client says where the body ends.
    fn framing(&self) -> Framing;
    fn is_end(&self) -> bool;
    /// The next part, if it is here already.
    fn ready_chunk(&mut self) -> Result<Option<Bytes>, SourceError>;
    /// The next part; `None` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, SourceError>>;
    /// Ready once the client has gone. To be polled after the end of the body.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Ready once `due` has passed; the moment may differ at each poll.
    fn poll_due(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()>;
}

/// Why no more of a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceError {
    Gone,
    Bad(&'static str),
}

/// Why a request ends without a replica's answer.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Refusal),
    ClientGone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Gone => Self::ClientGone,
            SourceError::Bad(why) => Self::Refused(Refusal::new(Reason::BadRequest, why)),
        }
    }
}

/// A body of which the first bytes are kept, so that it can be read ahead and sent again.
#[derive(Debug)]
pub(crate) struct Body<S> {
    pub(crate) source: S,
    kept: SmallVec<[Bytes; 2]>,
    kept_bytes: usize,
    limit: usize,
    /// All that was read is kept.
    complete: bool,
}

impl<S: Source> Body<S> {
    /// Keeps up to `limit` bytes.
    pub(crate) fn new(source: S, limit: usize) -> Self {
        Self { source, kept: SmallVec::new(), kept_bytes: 0, limit, complete: true }
    }

    /// Notes a part that was read. Past the limit nothing is kept any more.
    pub(crate) fn keep(&mut self, chunk: &Bytes) {
        if !self.complete {
            return;
        }
        self.kept_bytes += chunk.len();
        if self.kept_bytes > self.limit {
            self.complete = false;
            self.kept.clear();
        } else {
            self.kept.push(chunk.clone());
        }
    }

    pub(crate) fn kept(&self) -> &[Bytes] {
        &self.kept
    }

    /// Whether the body can be sent again from its start.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.complete
    }

    /// The whole body, if all of it has been read and kept.
    pub(crate) fn whole(&self) -> Option<&[Bytes]> {
        (self.complete && self.source.is_end()).then_some(self.kept())
    }

    /// Reads ahead until `done` says so or `limit` bytes are there. True at the body's end.
    pub(crate) async fn read_ahead<T>(
        &mut self,
        limit: usize,
        due: Instant,
        mut done: impl FnMut(&[u8], bool) -> Option<T>,
    ) -> Result<Option<T>, Stop> {
        let mut seen = Vec::new();
        loop {
            if let Some(found) = done(&seen, self.source.is_end()) {
                return Ok(Some(found));
            }
            if self.source.is_end() || seen.len() >= limit {
                return Ok(None);
            }
            let chunk = std::future::poll_fn(|cx| {
                if let Poll::Ready(chunk) = self.source.poll_chunk(cx) {
                    return Poll::Ready(chunk.map_err(Stop::from));
                }
                self.source.poll_due(cx, due).map(|()| {
                    Err(Refusal::new(Reason::ClientTimeout, "the request body did not come").into())
                })
            });
            if let Some(chunk) = chunk.await? {
                seen.extend_from_slice(&chunk);
                // What is read ahead must be kept, whatever the limit for repeats is.
                self.limit = self.limit.max(self.kept_bytes + chunk.len());
                self.keep(&chunk);
            }
        }
    }
}
