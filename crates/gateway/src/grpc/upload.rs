//! The messages of a client on their way to a replica, kept as long as they may be sent again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use crate::replay::Kept;

/// The client's side of a call. The body of each attempt reads from here.
#[derive(Debug, Clone)]
pub(super) struct Upload(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    incoming: Incoming,
    kept: Kept,
    ended: bool,
    /// The attempt that may read; bodies of earlier ones are void.
    attempt: u32,
}

/// Why no more of a call's messages come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the client broke off: {0}")]
    Client(#[from] hyper::Error),
    #[error("another attempt took over")]
    Void,
}

impl Upload {
    pub(super) fn new(incoming: Incoming, kept: Kept) -> Self {
        let ended = incoming.is_end_stream();
        let inner = Inner { incoming, kept, ended, attempt: 0 };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the next attempt, from the first message on.
    pub(super) fn body(&self) -> CallBody {
        let mut inner = self.lock();
        inner.attempt += 1;
        CallBody { upload: Source::Client(self.clone(), inner.attempt), position: 0 }
    }

    /// Whether an attempt could send all messages again.
    pub(super) fn is_repeatable(&self) -> bool {
        self.lock().kept.is_complete()
    }

    /// All messages, if the client has sent all, all are kept, and they are not longer than `limit`.
    pub(super) fn whole(&self, limit: usize) -> Option<Vec<Bytes>> {
        let inner = self.lock();
        let kept = &inner.kept;
        let whole = kept.is_complete() && inner.ended && kept.bytes() <= limit;
        whole.then(|| kept.chunks().to_vec())
    }

    /// Gives the kept messages back: an answer has begun, so nothing is sent again.
    pub(super) fn settle(&self) {
        self.lock().kept.settle();
    }

    /// Reads ahead until `done` says so, or `limit` bytes are there, or the client has ended.
    pub(super) async fn read_ahead<T>(
        &self,
        limit: usize,
        mut done: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, UploadError> {
        let mut seen = Vec::new();
        loop {
            if let Some(found) = done(&seen) {
                return Ok(Some(found));
            }
            if seen.len() >= limit {
                return Ok(None);
            }
            let chunk = std::future::poll_fn(|cx| self.lock().poll_next(cx, true)).await;
            match chunk.transpose()? {
                Some(chunk) => seen.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

impl Inner {
    /// The next part from the client. `must_keep`: it is read ahead, so it is kept whatever the
    /// limit for repeats is.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        must_keep: bool,
    ) -> Poll<Option<Result<Bytes, UploadError>>> {
        while !self.ended {
            let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx)).transpose()?;
            let Some(frame) = frame else {
                self.ended = true;
                break;
            };
            // gRPC clients send no trailers.
            let Ok(chunk) = frame.into_data() else { continue };
            if must_keep {
                self.kept.keep_ahead(&chunk);
            } else {
                self.kept.keep(&chunk);
            }
            self.ended = self.incoming.is_end_stream();
            return Poll::Ready(Some(Ok(chunk)));
        }
        Poll::Ready(None)
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub(crate) struct CallBody {
    upload: Source,
    /// Parts sent so far.
    position: usize,
}

#[derive(Debug)]
enum Source {
    Client(Upload, u32),
    Canned(Vec<Bytes>),
}

impl CallBody {
    /// A body from no client.
    pub(crate) fn canned(chunks: Vec<Bytes>) -> Self {
        Self { upload: Source::Canned(chunks), position: 0 }
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = &mut *self;
        let next = match &this.upload {
            Source::Canned(chunks) => Poll::Ready(chunks.get(this.position).cloned().map(Ok)),
            Source::Client(upload, attempt) => {
                let mut inner = upload.lock();
                if inner.attempt != *attempt {
                    return Poll::Ready(Some(Err(UploadError::Void)));
                }
                match inner.kept.chunks().get(this.position) {
                    Some(chunk) => Poll::Ready(Some(Ok(chunk.clone()))),
                    None => inner.poll_next(cx, false),
                }
            }
        };
        let next = ready!(next);
        this.position += 1;
        Poll::Ready(next.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.upload {
            Source::Canned(chunks) => chunks.len() <= self.position,
            Source::Client(upload, _) => {
                let inner = upload.lock();
                inner.ended && inner.kept.chunks().len() <= self.position
            }
        }
    }
}
