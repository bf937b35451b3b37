//! How busy a service is, counted so that any window can be averaged.

use std::sync::Mutex;
use std::time::Instant;

/// What the autoscaler sees of one service. Counters only grow; two readings give a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServiceLoad {
    pub at: Instant,
    /// Requests accepted and not yet answered to the last byte, held ones included.
    pub in_flight: u64,
    /// Of these, how many wait for an endpoint.
    pub held: u64,
    /// Requests accepted since the gateway first saw the service.
    pub arrivals: u64,
    /// Request-seconds since then: the integral of `in_flight` over time.
    pub request_seconds: f64,
}

impl ServiceLoad {
    /// Mean of requests in flight since an `earlier` reading, weighted by time.
    pub fn mean_concurrency(&self, earlier: &Self) -> f64 {
        let span = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        if span <= 0.0 {
            return self.in_flight as f64;
        }
        ((self.request_seconds - earlier.request_seconds) / span).max(0.0)
    }

    /// Requests accepted per second since an `earlier` reading.
    pub fn arrival_rate(&self, earlier: &Self) -> f64 {
        let span = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        if span <= 0.0 {
            return 0.0;
        }
        self.arrivals.saturating_sub(earlier.arrivals) as f64 / span
    }
}

/// Counts requests in and out.
#[derive(Debug)]
pub(crate) struct Meter {
    // One short lock a request and change: the integral needs count and clock to agree.
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone, Copy)]
struct Inner {
    in_flight: u64,
    arrivals: u64,
    /// Integral up to `last`, in request-nanoseconds.
    area: u128,
    last: Instant,
}

impl Inner {
    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.last);
        self.area += elapsed.as_nanos() * u128::from(self.in_flight);
        self.last = self.last.max(now);
    }
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { inner: Mutex::new(Inner { in_flight: 0, arrivals: 0, area: 0, last: now }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // The guarded code cannot panic half way, so a poisoned lock holds sound numbers.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, now: Instant) {
        let mut inner = self.lock();
        inner.advance(now);
        inner.in_flight += 1;
        inner.arrivals += 1;
    }

    pub(crate) fn leave(&self, now: Instant) {
        let mut inner = self.lock();
        inner.advance(now);
        inner.in_flight = inner.in_flight.saturating_sub(1);
    }

    pub(crate) fn read(&self, held: u64, now: Instant) -> ServiceLoad {
        let mut inner = self.lock();
        inner.advance(now);
        ServiceLoad {
            at: now,
            in_flight: inner.in_flight,
            held,
            arrivals: inner.arrivals,
            request_seconds: inner.area as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_mean_is_weighted_by_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let meter = Meter::new(start);
        let first = meter.read(0, at(0));
        meter.enter(at(0));
        meter.enter(at(500)); // 1 in flight for 500 ms, then 2 for 250 ms, then 0 for 250 ms.
        meter.leave(at(750));
        meter.leave(at(750));
        let second = meter.read(0, at(1000));
        assert_eq!(second.mean_concurrency(&first), 1.0);
        assert_eq!(second.arrival_rate(&first), 2.0);
        assert_eq!((second.in_flight, second.arrivals), (0, 2));
        assert_eq!(meter.read(0, at(2000)).mean_concurrency(&second), 0.0);
    }

    #[test]
    fn a_clock_that_stands_still_gives_the_momentary_count() {
        let now = Instant::now();
        let meter = Meter::new(now);
        meter.enter(now);
        let load = meter.read(0, now);
        assert_eq!(load.mean_concurrency(&load), 1.0);
        assert_eq!(load.arrival_rate(&load), 0.0);
    }
}
