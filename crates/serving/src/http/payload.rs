//! Bodies of answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

/// The answer of a REST handler.
pub(crate) type Answer = Response<Payload>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Payload::from(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// A complete body in one piece, or in several so that tensors need not be copied behind their
/// header.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    first: Bytes,
    rest: VecDeque<Bytes>,
}

impl Payload {
    /// Adds a piece at the end.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = piece;
        } else {
            self.rest.push_back(piece);
        }
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.rest.iter().fold(self.first.len(), |sum, piece| sum.saturating_add(piece.len()))
    }

    /// The pieces, first to last.
    pub(crate) fn pieces(mut self) -> impl Iterator<Item = Bytes> {
        std::iter::from_fn(move || self.pop())
    }

    fn pop(&mut self) -> Option<Bytes> {
        if self.first.has_remaining() {
            return Some(std::mem::take(&mut self.first));
        }
        self.rest.pop_front()
    }
}

impl From<Bytes> for Payload {
    fn from(first: Bytes) -> Self {
        Self { first, rest: VecDeque::new() }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pop().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}
