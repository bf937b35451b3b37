//! The bodies of answers over HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};

use crate::call::Call;
use crate::forward::{AnswerBody, BrokenOff};
use crate::gateway::Gateway;
use crate::grpc::GrpcBody;
use crate::http1::Timer;

/// What a client of HTTP/2 reads.
#[derive(Debug)]
pub(crate) enum FrontBody {
    Bytes(Option<Bytes>),
    /// One gRPC message, then a status of OK.
    Message(Option<Bytes>, bool),
    Rest(Box<RestBody>),
    Grpc(Box<GrpcBody>),
}

impl FrontBody {
    pub(crate) fn message(message: Bytes) -> Self {
        Self::Message(Some(message), false)
    }
}

impl Default for FrontBody {
    fn default() -> Self {
        Self::Bytes(None)
    }
}

/// The body of a replica's answer over HTTP/1.1.
#[derive(Debug)]
pub(crate) struct RestBody {
    gateway: Arc<Gateway>,
    rest: Option<AnswerBody>,
    timer: Timer,
    /// When the replica is given up, if nothing comes before.
    due: Instant,
    _call: Call,
}

impl RestBody {
    pub(super) fn new(gateway: Arc<Gateway>, rest: AnswerBody, call: Call) -> Self {
        let due = Instant::now() + gateway.settings.response_timeout;
        Self { gateway, rest: Some(rest), timer: Timer::new(due), due, _call: call }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let data = match rest.poll_data(cx) {
            Poll::Ready(data) => data,
            Poll::Pending => match self.timer.poll_due(cx, self.due) {
                Poll::Ready(()) => Err(BrokenOff),
                Poll::Pending => return Poll::Pending,
            },
        };
        if let Ok(Some(length)) = data {
            self.due = Instant::now() + self.gateway.settings.response_timeout;
            return Poll::Ready(Some(Ok(rest.bytes().split_to(length).freeze())));
        }
        if let Some(rest) = self.rest.take() {
            rest.finish(&self.gateway);
        }
        Poll::Ready(data.err().map(Err))
    }
}

/// Why a body ends early; hyper resets the stream then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontError {
    #[error(transparent)]
    Rest(#[from] BrokenOff),
    #[error(transparent)]
    Grpc(#[from] hyper::Error),
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = FrontError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FrontError>>> {
        match &mut *self {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Message(message, ended) => {
                if let Some(message) = message.take() {
                    return Poll::Ready(Some(Ok(Frame::data(message))));
                }
                if std::mem::replace(ended, true) {
                    return Poll::Ready(None);
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Self::Rest(body) => body
                .poll(cx)
                .map(|data| data.map(|data| data.map(Frame::data).map_err(FrontError::from))),
            Self::Grpc(body) => Pin::new(&mut **body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(FrontError::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_none(),
            Self::Message(_, ended) => *ended,
            Self::Rest(body) => body.rest.is_none(),
            Self::Grpc(body) => body.is_end_stream(),
        }
    }
}
