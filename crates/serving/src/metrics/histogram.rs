//! Counts of observations by size, with atomics only.
//!
//! `prometheus-client`'s own histogram takes a lock for each observation; the hot path must not.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of latency buckets, in microseconds: 50 µs to 60 s, four to a factor of ten, on
/// round numbers because latency targets are round.
pub(crate) const LATENCY_BOUNDS_US: [u64; 25] = [
    50, 100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 30_000, 50_000, 100_000,
    200_000, 300_000, 500_000, 1_000_000, 2_000_000, 3_000_000, 5_000_000, 10_000_000, 20_000_000,
    30_000_000, 60_000_000,
];

/// Upper bounds of batch size buckets, in elements.
pub(crate) const BATCH_BOUNDS: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];

/// One bucket per bound, and one for what is larger than all.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// `bounds` ascend.
    pub(crate) fn new(bounds: &'static [u64; N]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; N], above: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(bucket).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
    }

    /// Observations per bucket, not cumulated; the last is what is above all bounds.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.counts.iter().chain([&self.above]).map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        static BOUNDS: [u64; 3] = [1, 2, 4];
        let histogram = Histogram::new(&BOUNDS);
        for value in [0, 1, 2, 3, 4, 5, 900] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [2, 1, 2, 2]);
    }

    #[test]
    fn bounds_ascend() {
        assert!(LATENCY_BOUNDS_US.is_sorted_by(|one, two| one < two));
        assert!(BATCH_BOUNDS.is_sorted_by(|one, two| one < two));
    }
}
