//! A replica's messages on their way to the client, to the trailers with the status.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use hyper::body::Incoming;

use crate::call::Call;
use crate::revision::Code;
use crate::upstream::GrpcLease;
use crate::visit::{Ending, Visit};

/// Reads the code of `grpc-status`; anything else is UNKNOWN (2).
pub(super) fn code_of(headers: &HeaderMap) -> Option<u8> {
    let value = headers.get("grpc-status")?;
    let code = value.to_str().ok().and_then(|text| text.parse().ok());
    Some(code.filter(|code| *code <= 16).unwrap_or(2))
}

/// What a call's code says about the replica.
pub(super) fn ending_of(code: u8) -> Ending {
    match code {
        // DEADLINE_EXCEEDED: the deadline may be the client's.
        4 => Ending::Late,
        // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS.
        2 | 13 | 14 | 15 => Ending::Failed,
        _ => Ending::Answered,
    }
}

/// The body of a forwarded call.
#[derive(Debug)]
pub(crate) struct GrpcBody {
    incoming: Incoming,
    visit: Option<Visit>,
    call: Call,
    _lease: GrpcLease,
}

impl GrpcBody {
    pub(super) fn new(incoming: Incoming, visit: Visit, call: Call, lease: GrpcLease) -> Self {
        Self { incoming, visit: Some(visit), call, _lease: lease }
    }

    /// Of an answer that consisted of trailers only.
    pub(super) fn ended(incoming: Incoming, call: Call, lease: GrpcLease) -> Self {
        Self { incoming, visit: None, call, _lease: lease }
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    fn end(&mut self, code: u8) {
        if let Some(visit) = self.visit.take() {
            self.call.answered(&visit, Code::Grpc(code));
            visit.end(ending_of(code));
        }
    }
}

impl Body for GrpcBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if this.visit.is_none() {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut this.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = code_of(trailers).unwrap_or(2);
                    this.end(code);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // A call ends with a status, also where the replica did not get to say one.
            end => {
                if let Some(Err(error)) = end {
                    tracing::debug!(%error, "a replica broke off in the middle of a call");
                }
                this.end(14);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("14"));
                let message = "the replica broke off in the middle of its answer";
                trailers.insert("grpc-message", HeaderValue::from_static(message));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.visit.is_none()
    }
}
