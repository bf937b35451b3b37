//! What is kept of a request's body so that it can be sent to another replica.
//!
//! Each request keeps up to its own limit. What all of them keep beyond a small part of their own
//! comes from one pool, so that memory stays bounded: a body that finds the pool empty goes on
//! without being kept, and is not sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use smallvec::SmallVec;

/// So much each request keeps without asking the pool: small bodies, and what is read ahead.
const FREE: usize = 64 << 10;

/// Bytes that all requests together may keep.
#[derive(Debug)]
pub(crate) struct Pool {
    taken: AtomicUsize,
    max: usize,
}

impl Pool {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), max })
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The parts of one body that were read, as long as all of them are kept.
#[derive(Debug)]
pub(crate) struct Kept {
    chunks: SmallVec<[Bytes; 2]>,
    bytes: usize,
    limit: usize,
    /// All that was read is kept.
    complete: bool,
    taken: usize,
    pool: Arc<Pool>,
}

impl Kept {
    /// Keeps up to `limit` bytes.
    pub(crate) fn new(limit: usize, pool: &Arc<Pool>) -> Self {
        Self {
            chunks: SmallVec::new(),
            bytes: 0,
            limit,
            complete: true,
            taken: 0,
            pool: pool.clone(),
        }
    }

    /// Notes a part that was read. Past the limit, or with the pool empty, nothing is kept any more.
    pub(crate) fn keep(&mut self, chunk: &Bytes) {
        if !self.complete {
            return;
        }
        let bytes = self.bytes.saturating_add(chunk.len());
        let more = bytes.saturating_sub(FREE).saturating_sub(self.taken);
        if bytes > self.limit || (more > 0 && !self.pool.take(more)) {
            return self.forget();
        }
        self.taken += more;
        self.bytes = bytes;
        self.chunks.push(chunk.clone());
    }

    /// Notes a part that was read ahead, which must be kept whatever the limits for repeats are:
    /// nothing of it was sent yet. Who reads ahead has a limit of their own.
    pub(crate) fn keep_ahead(&mut self, chunk: &Bytes) {
        self.limit = self.limit.max(self.bytes.saturating_add(chunk.len()));
        self.bytes += chunk.len();
        self.chunks.push(chunk.clone());
    }

    pub(crate) fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all that was read is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Keeps no more from here on: nothing is sent again.
    pub(crate) fn settle(&mut self) {
        self.limit = 0;
    }

    fn forget(&mut self) {
        self.complete = false;
        self.chunks = SmallVec::new();
        self.pool.give_back(std::mem::take(&mut self.taken));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.pool.give_back(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    #[test]
    fn a_request_keeps_up_to_its_limit() {
        let pool = Pool::new(1 << 20);
        let mut kept = Kept::new(100, &pool);
        kept.keep(&chunk(60));
        kept.keep(&chunk(40));
        assert!(kept.is_complete() && kept.bytes() == 100 && kept.chunks().len() == 2);
        kept.keep(&chunk(1));
        assert!(!kept.is_complete() && kept.chunks().is_empty());
        kept.keep(&chunk(1));
        assert!(kept.chunks().is_empty(), "a part without those before it is worth nothing");
    }

    #[test]
    fn all_requests_keep_no_more_than_the_pool() {
        let pool = Pool::new(100);
        let (mut one, mut two) = (Kept::new(usize::MAX, &pool), Kept::new(usize::MAX, &pool));
        one.keep(&chunk(FREE + 80));
        two.keep(&chunk(FREE));
        assert!(one.is_complete() && two.is_complete(), "the first part is each one's own");
        two.keep(&chunk(30));
        assert!(!two.is_complete(), "30 of the 20 bytes that are left");
        drop(one);
        assert_eq!(pool.taken.load(Ordering::Relaxed), 0);
        let mut three = Kept::new(usize::MAX, &pool);
        three.keep(&chunk(FREE + 100));
        assert!(three.is_complete());
        three.keep(&chunk(1));
        assert!(!three.is_complete());
        assert_eq!(pool.taken.load(Ordering::Relaxed), 0, "what is forgotten is given back");
    }

    #[test]
    fn what_is_read_ahead_stays() {
        let mut kept = Kept::new(0, &Pool::new(0));
        kept.keep_ahead(&chunk(70_000));
        assert!(kept.is_complete() && kept.bytes() == 70_000);
        kept.keep(&chunk(1));
        assert!(!kept.is_complete());
    }
}
