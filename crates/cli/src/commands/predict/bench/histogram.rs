//! Latencies with bounded relative error, in constant space.

use std::time::Duration;

/// Steps between a power of two and the next: an error of at most 1/128 when the middle is told.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Enough for every u64.
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) * STEPS as usize;

/// Counts of nanoseconds in buckets that grow with the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(nanoseconds)) {
            *count = count.saturating_add(1);
        }
        self.total = self.total.saturating_add(1);
        self.sum = self.sum.saturating_add(u128::from(nanoseconds));
        self.min = self.min.min(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.total = self.total.saturating_add(other.total);
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn min(&self) -> Duration {
        Duration::from_nanos(if self.total == 0 { 0 } else { self.min })
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    pub(super) fn mean(&self) -> Duration {
        let mean = self.sum.checked_div(u128::from(self.total)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The latency that this share of all is not above.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let wanted = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        for (at, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                let (low, high) = bounds(at);
                let middle = low.saturating_add(high.saturating_sub(low) / 2);
                return Duration::from_nanos(middle.clamp(self.min, self.max));
            }
        }
        Duration::ZERO
    }

    /// How many lie in `[from, to)`, to the precision of the buckets.
    pub(super) fn count_between(&self, from: Duration, to: Duration) -> u64 {
        let nanoseconds = |at: Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let (from, to) = (bucket(nanoseconds(from)), bucket(nanoseconds(to)));
        self.counts.get(from..to).unwrap_or_default().iter().sum()
    }
}

/// Values below `STEPS` have a bucket each; above, the leading bits decide.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return usize::try_from(value).unwrap_or(0);
    }
    let power = value.ilog2();
    let shift = power.saturating_sub(STEP_BITS);
    let group = u64::from(shift).saturating_add(1);
    let step = (value >> shift).saturating_sub(STEPS);
    usize::try_from(group.saturating_mul(STEPS).saturating_add(step)).unwrap_or(usize::MAX)
}

/// First value of a bucket, and first of the next.
fn bounds(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    let (group, step) = (bucket / STEPS, bucket % STEPS);
    if group == 0 {
        return (step, step.saturating_add(1));
    }
    let shift = u32::try_from(group.saturating_sub(1)).unwrap_or(0);
    let low = STEPS.saturating_add(step).checked_shl(shift).unwrap_or(u64::MAX);
    (low, low.saturating_add(1u64.checked_shl(shift).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles() {
        let mut all = Histogram::default();
        assert_eq!((all.quantile(0.5), all.min(), all.mean()), Default::default());
        for millisecond in 1..=1000 {
            let mut one = Histogram::default();
            one.record(Duration::from_millis(millisecond));
            all.merge(&one);
        }
        let close = |share, expected: f64| {
            let got = all.quantile(share).as_secs_f64() * 1000.0;
            assert!((got / expected - 1.0).abs() < 0.01, "{share}: {got}");
        };
        close(0.5, 500.0);
        close(0.99, 990.0);
        close(1.0, 1000.0);
        assert_eq!((all.total(), all.max()), (1000, Duration::from_secs(1)));
        let half = all.count_between(Duration::ZERO, Duration::from_millis(500));
        assert!((490..=500).contains(&half), "{half}");
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_values(value: u64) {
            let at = bucket(value);
            prop_assert!(at < BUCKETS);
            let (low, high) = bounds(at);
            prop_assert!(low <= value && (value < high || high == u64::MAX));
            prop_assert!((high - low) as f64 <= (low as f64 / STEPS as f64).max(1.0));
        }
    }
}
