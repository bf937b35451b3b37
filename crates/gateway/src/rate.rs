//! A token bucket for each caller, in a table of bounded size.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::table::Rate;

/// Callers remembered at once, about 1 MiB. Beyond it, callers not seen before share one bucket:
/// whoever makes up addresses then gets one caller's rate in all.
const MAX_CALLERS: usize = 10_000;
/// How often the full buckets are forgotten while the table is full; a sweep is linear.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The callers of one service.
#[derive(Debug)]
pub(crate) struct Callers<K> {
    buckets: HashMap<K, Bucket>,
    others: Option<Bucket>,
    swept: Option<Instant>,
}

impl<K> Default for Callers<K> {
    fn default() -> Self {
        Self { buckets: HashMap::new(), others: None, swept: None }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    last: Instant,
}

impl Bucket {
    fn fill(&mut self, rate: &Rate, now: Instant) {
        let elapsed = now.saturating_duration_since(self.last).as_secs_f64();
        self.tokens = (self.tokens + elapsed * rate.per_second).min(capacity(rate));
        self.last = self.last.max(now);
    }
}

/// A burst below one would never let a request through.
fn capacity(rate: &Rate) -> f64 {
    f64::from(rate.burst.max(1))
}

impl<K: Hash + Eq> Callers<K> {
    /// Lets a request of `caller` pass, or says how long it should wait.
    pub(crate) fn admit(&mut self, caller: K, rate: &Rate, now: Instant) -> Result<(), Duration> {
        if self.buckets.len() >= MAX_CALLERS && !self.buckets.contains_key(&caller) {
            self.sweep(rate, now);
        }
        let full = Bucket { tokens: capacity(rate), last: now };
        let bucket = if self.buckets.len() < MAX_CALLERS || self.buckets.contains_key(&caller) {
            self.buckets.entry(caller).or_insert(full)
        } else {
            self.others.get_or_insert(full)
        };
        bucket.fill(rate, now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - bucket.tokens) / rate.per_second;
        // A rate of zero, or nearly so, never refills.
        Err(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(86_400)))
    }

    fn sweep(&mut self, rate: &Rate, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.buckets.retain(|_, bucket| {
            bucket.fill(rate, now);
            bucket.tokens < capacity(rate)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_second: 2.0, burst: 3 };

    #[test]
    fn burst_then_rate_for_each_caller() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut callers = Callers::default();
        for _ in 0..3 {
            assert_eq!(callers.admit("a", &RATE, at(0)), Ok(()));
        }
        assert_eq!(callers.admit("a", &RATE, at(0)), Err(Duration::from_millis(500)));
        assert_eq!(callers.admit("b", &RATE, at(0)), Ok(()), "another caller is not concerned");
        assert_eq!(callers.admit("a", &RATE, at(500)), Ok(()));
        assert_eq!(callers.admit("a", &RATE, at(600)), Err(Duration::from_millis(400)));
    }

    #[test]
    fn made_up_callers_share_one_bucket_and_are_forgotten() {
        let start = Instant::now();
        let mut callers = Callers::default();
        for caller in 0..MAX_CALLERS {
            assert_eq!(callers.admit(caller, &RATE, start), Ok(()));
        }
        let passed = (0..100).filter(|n| callers.admit(MAX_CALLERS + n, &RATE, start).is_ok());
        assert_eq!(passed.count(), 3);
        assert_eq!(callers.buckets.len(), MAX_CALLERS);
        let later = start + Duration::from_secs(2);
        assert_eq!(callers.admit(usize::MAX, &RATE, later), Ok(()));
        assert_eq!(callers.buckets.len(), 1);
    }

    #[test]
    fn a_rate_of_zero_waits_a_day() {
        let mut callers = Callers::default();
        let rate = Rate { per_second: 0.0, burst: 0 };
        assert_eq!(callers.admit((), &rate, Instant::now()), Ok(()));
        assert_eq!(callers.admit((), &rate, Instant::now()), Err(Duration::from_secs(86_400)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(gaps in proptest::collection::vec(0u64..400, 1..200)) {
            let start = Instant::now();
            let mut callers = Callers::default();
            let (mut elapsed, mut passed) = (0, 0);
            for gap in gaps {
                elapsed += gap;
                let now = start + Duration::from_millis(elapsed);
                passed += u64::from(callers.admit(0, &RATE, now).is_ok());
                prop_assert!(passed as f64 <= 3.0 + 2.0 * elapsed as f64 / 1e3 + 1e-6);
            }
        }
    }
}
