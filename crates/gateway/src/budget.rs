//! How many retries a service may cost its replicas: a share of its requests, and a few besides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Unused retries are kept so long; tower and Finagle use the same window.
const WINDOW: Duration = Duration::from_secs(10);

/// The retry budget of one service.
#[derive(Debug)]
pub(crate) struct Budget {
    requests: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tokens: f64,
    requests_seen: u64,
    last: Instant,
}

impl Budget {
    /// `min_per_second` for one window is there from the start.
    pub(crate) fn new(min_per_second: f64, now: Instant) -> Self {
        let tokens = min_per_second * WINDOW.as_secs_f64();
        let inner = Inner { tokens, requests_seen: 0, last: now };
        Self { requests: AtomicU64::new(0), inner: Mutex::new(inner) }
    }

    /// Counts a request that came in.
    pub(crate) fn deposit(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one retry out, if there is one.
    pub(crate) fn withdraw(&self, ratio: f64, min_per_second: f64, now: Instant) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = self.requests.load(Ordering::Relaxed);
        let elapsed = now.saturating_duration_since(inner.last).as_secs_f64();
        let (window, minimum) = (WINDOW.as_secs_f64(), min_per_second * WINDOW.as_secs_f64());
        // Of requests that came over a longer time, only a window's worth counts, and what was
        // saved from them is forgotten within a window.
        let recent = (window / elapsed).min(1.0);
        let fresh = requests.saturating_sub(inner.requests_seen) as f64 * ratio * recent;
        let saved = (inner.tokens - minimum).max(0.0) * (1.0 - elapsed / window).max(0.0);
        let given = (inner.tokens.min(minimum) + elapsed * min_per_second).min(minimum);
        inner.tokens = given + saved + fresh;
        inner.requests_seen = requests;
        inner.last = inner.last.max(now);
        if inner.tokens < 1.0 {
            return false;
        }
        inner.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_requests_and_a_minimum() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let budget = Budget::new(1.0, start);
        let take = |now| (0..1_000).take_while(|_| budget.withdraw(0.2, 1.0, now)).count();
        assert_eq!(take(at(0)), 10, "one window of the minimum at the start");
        assert_eq!(take(at(0)), 0);
        assert_eq!(take(at(3)), 3, "one a second");
        for _ in 0..100 {
            budget.deposit();
        }
        assert_eq!(take(at(3)), 20, "a fifth of the requests");
        assert_eq!(take(at(1_000)), 10, "not more than a window is saved");
    }

    #[test]
    fn no_budget_no_retry() {
        let budget = Budget::new(0.0, Instant::now());
        budget.deposit();
        assert!(!budget.withdraw(0.0, 0.0, Instant::now() + Duration::from_secs(60)));
    }
}
