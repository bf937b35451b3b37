//! The body of a request on its way to a replica: where it comes from, and what is kept of it.

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use crate::http1::Framing;
use crate::refusal::{Reason, Refusal};
use crate::replay::Kept;

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
    kept: Kept,
}

impl<S: Source> Body<S> {
    pub(crate) fn new(source: S, kept: Kept) -> Self {
        Self { source, kept }
    }

    /// Notes a part that was read.
    pub(crate) fn keep(&mut self, chunk: &Bytes) {
        self.kept.keep(chunk);
    }

    pub(crate) fn kept(&self) -> &[Bytes] {
        self.kept.chunks()
    }

    /// Whether the body can be sent again from its start.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.kept.is_complete()
    }

    /// The whole body, if all of it has been read and kept and it is not longer than `limit`.
    pub(crate) fn whole(&self, limit: usize) -> Option<&[Bytes]> {
        let whole = self.kept.is_complete() && self.source.is_end() && self.kept.bytes() <= limit;
        whole.then_some(self.kept())
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
                self.kept.keep_ahead(&chunk);
            }
        }
    }
}
