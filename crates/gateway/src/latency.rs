//! Counts of latencies in log-linear buckets, cheap to note and exact to add and subtract.
//!
//! Each power of two of microseconds is cut into [`STEPS`] equal buckets, so a quantile read from
//! them is at most an eighth too high, from 1 µs to over an hour, in 2 KiB.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STEPS: u64 = 8;
/// Values from 2^32 µs (71 minutes) on share the last bucket.
const LARGEST: u64 = (1 << 32) - 1;
const BUCKETS: usize = 240;

/// Latencies as they come in.
#[derive(Debug)]
pub(crate) struct Latencies {
    counts: Box<[AtomicU64]>,
    micros: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        let counts = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { counts, micros: AtomicU64::new(0) }
    }
}

impl Latencies {
    pub(crate) fn note(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(LARGEST);
        if let Some(count) = self.counts.get(bucket_of(micros)) {
            count.fetch_add(1, Ordering::Relaxed);
            self.micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> LatencyCounts {
        LatencyCounts {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            micros: self.micros.load(Ordering::Relaxed),
        }
    }
}

/// A reading of latencies. Two readings of one revision can be subtracted, and those of several
/// gateways or revisions added; quantiles stay right in both cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyCounts {
    counts: Vec<u64>,
    micros: u64,
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], micros: 0 }
    }
}

impl LatencyCounts {
    /// The buckets that hold anything, as `(bucket, count)`, and the sum in microseconds: for
    /// another process, whose [`from_parts`](Self::from_parts) reads it.
    pub fn parts(&self) -> (Vec<(u16, u64)>, u64) {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let counts = counts.filter_map(|(at, count)| Some((u16::try_from(at).ok()?, *count)));
        (counts.collect(), self.micros)
    }

    /// What another process noted. Buckets that there are not are left out.
    pub fn from_parts(counts: &[(u16, u64)], micros: u64) -> Self {
        let mut read = Self { micros, ..Self::default() };
        for (at, count) in counts {
            if let Some(bucket) = read.counts.get_mut(usize::from(*at)) {
                *bucket = *count;
            }
        }
        read
    }

    /// How many latencies were noted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all latencies, each cut to whole microseconds.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// What was noted after an `earlier` reading of the same counts.
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(a, b)| a.saturating_sub(*b));
        Self { counts: counts.collect(), micros: self.micros.saturating_sub(earlier.micros) }
    }

    /// Adds what another gateway or revision noted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// The upper edge of the bucket that holds the `q`-quantile, as 0.99; `None` without counts.
    ///
    /// Never below the true quantile, and at most an eighth above it.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, bucket) in self.counts.iter().enumerate() {
            seen += bucket;
            if seen >= rank {
                return Some(Duration::from_micros(upper_edge(index)));
            }
        }
        None
    }

    /// Counts up to each of `edges` (seconds, growing) and above the last, for an exposition.
    pub(crate) fn up_to(&self, edges: &[f64]) -> Vec<(f64, u64)> {
        let mut buckets: Vec<(f64, u64)> = edges.iter().map(|edge| (*edge, 0)).collect();
        buckets.push((f64::INFINITY, 0));
        for (index, count) in self.counts.iter().enumerate() {
            let seconds = upper_edge(index) as f64 / 1e6;
            if let Some((_, total)) = buckets.iter_mut().find(|(edge, _)| seconds <= *edge) {
                *total += count;
            }
        }
        buckets
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    // With 2^e the largest power of two in it: 8 buckets below 8, then 8 for each e from 3 on.
    let exponent = u64::from(micros.ilog2());
    let step = (micros >> (exponent - 3)) - STEPS;
    ((exponent - 2) * STEPS + step) as usize
}

/// The largest whole number of microseconds in a bucket.
fn upper_edge(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let (exponent, step) = (index / STEPS + 2, index % STEPS);
    ((STEPS + step + 1) << (exponent - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(micros: &[u64]) -> LatencyCounts {
        let latencies = Latencies::default();
        for value in micros {
            latencies.note(Duration::from_micros(*value));
        }
        latencies.read()
    }

    #[test]
    fn nothing_noted_has_no_quantile() {
        assert_eq!(counts(&[]).quantile(0.99), None);
        assert_eq!(counts(&[]).count(), 0);
    }

    #[test]
    fn huge_values_share_the_last_bucket() {
        let counts = counts(&[u64::MAX, 1 << 40]);
        assert_eq!(counts.count(), 2);
        assert_eq!(counts.quantile(0.5), Some(Duration::from_micros(LARGEST)));
    }

    #[test]
    fn exposition_is_in_the_given_buckets() {
        let buckets = counts(&[50, 2_000, 70_000_000]).up_to(&[0.001, 0.01]);
        assert_eq!(buckets, [(0.001, 1), (0.01, 1), (f64::INFINITY, 1)]);
    }

    proptest! {
        #[test]
        fn a_quantile_is_at_most_an_eighth_too_high(
            mut values in proptest::collection::vec(0u64..10_000_000_000, 1..300), q in 0.0f64..=1.0,
        ) {
            let read = counts(&values).quantile(q).unwrap().as_micros() as u64;
            values.sort_unstable();
            let rank = ((values.len() as f64 * q).ceil() as usize).max(1);
            let exact = values[rank - 1].min(LARGEST);
            prop_assert!(exact <= read && read - exact <= exact / 8, "{exact} {read}");
        }

        #[test]
        fn a_difference_and_a_sum_are_what_was_noted(
            first in proptest::collection::vec(0u64..1_000_000, 0..50),
            second in proptest::collection::vec(0u64..1_000_000, 0..50),
        ) {
            let both: Vec<u64> = first.iter().chain(&second).copied().collect();
            prop_assert_eq!(counts(&both).since(&counts(&first)), counts(&second));
            let mut sum = counts(&first);
            sum.merge(&counts(&second));
            let (parts, micros) = sum.parts();
            prop_assert_eq!(LatencyCounts::from_parts(&parts, micros), counts(&both));
        }
    }
}
