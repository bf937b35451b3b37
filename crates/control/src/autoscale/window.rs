//! Counters of the recent past, and averages over any part of it.

use std::collections::VecDeque;
use std::time::Duration;

/// The gateway's counters of one service at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// When they were read.
    pub at: Duration,
    /// Sum over all requests so far of the seconds that each was in flight or held: the integral
    /// of concurrency over time.
    pub request_seconds: f64,
    /// Requests that arrived so far, held ones included.
    pub arrivals: u64,
    /// Requests that are held right now since no replica is ready.
    pub held: u32,
    /// Requests that are in flight or held right now.
    pub in_flight: u32,
}

/// Mean demand over a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Demand {
    /// Requests in flight or held.
    pub(super) concurrency: f64,
    /// Requests per second.
    pub(super) rps: f64,
}

/// Samples in order of time, as far back as any average needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    samples: VecDeque<Sample>,
}

impl Window {
    /// Adds a sample and forgets those that no average over `keep` can need.
    ///
    /// A sample that is not newer is ignored. Counters that went back mean that the gateway started
    /// anew: what was before is forgotten. Returns whether it was.
    pub(super) fn push(&mut self, sample: Sample, keep: Duration) -> bool {
        let mut restarted = false;
        if let Some(last) = self.samples.back() {
            if sample.at <= last.at || !sample.request_seconds.is_finite() {
                return false;
            }
            if sample.arrivals < last.arrivals || sample.request_seconds < last.request_seconds {
                self.samples.clear();
                restarted = true;
            }
        }
        self.samples.push_back(sample);
        let start = sample.at.saturating_sub(keep);
        // The newest sample at or before the start stays: the average interpolates from it.
        while self.samples.get(1).is_some_and(|second| second.at <= start) {
            self.samples.pop_front();
        }
        restarted
    }

    pub(super) fn latest(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// The mean over `length` up to the latest sample, or over what there is of it. `None` with
    /// fewer than two samples.
    pub(super) fn mean_over(&self, length: Duration) -> Option<Demand> {
        let last = self.samples.back()?;
        let start = last.at.saturating_sub(length);
        let after = self.samples.iter().position(|sample| sample.at > start)?;
        let first_after = self.samples.get(after)?;
        let (begin, request_seconds, arrivals) = match after.checked_sub(1) {
            Some(before) => {
                let before = self.samples.get(before)?;
                let share = seconds(start.saturating_sub(before.at))
                    / seconds(first_after.at.saturating_sub(before.at));
                let between = |from: f64, to: f64| from + (to - from) * share;
                (
                    start,
                    between(before.request_seconds, first_after.request_seconds),
                    between(before.arrivals as f64, first_after.arrivals as f64),
                )
            }
            None => (first_after.at, first_after.request_seconds, first_after.arrivals as f64),
        };
        let elapsed = seconds(last.at.saturating_sub(begin));
        (elapsed > 0.0).then(|| Demand {
            concurrency: ((last.request_seconds - request_seconds) / elapsed).max(0.0),
            rps: ((last.arrivals as f64 - arrivals) / elapsed).max(0.0),
        })
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(samples: &[(u64, f64, u64)]) -> Window {
        let mut window = Window::default();
        for (at, request_seconds, arrivals) in samples.iter().copied() {
            let at = Duration::from_secs(at);
            window.push(
                Sample { at, request_seconds, arrivals, ..Sample::default() },
                Duration::from_secs(60),
            );
        }
        window
    }

    #[track_caller]
    fn check(samples: &[(u64, f64, u64)], length: u64, expected: Option<(f64, f64)>) {
        let mean = window(samples).mean_over(Duration::from_secs(length));
        assert_eq!(mean.map(|demand| (demand.concurrency, demand.rps)), expected);
    }

    #[test]
    fn table() {
        check(&[], 6, None);
        check(&[(0, 0.0, 0)], 6, None);
        // Two requests in flight, three arrivals a second.
        check(&[(0, 0.0, 0), (10, 20.0, 30)], 60, Some((2.0, 3.0)));
        // The last two seconds of the ten, by interpolation.
        check(&[(0, 0.0, 0), (10, 20.0, 30)], 2, Some((2.0, 3.0)));
        // Quiet for ten seconds, then four in flight.
        check(&[(0, 0.0, 0), (10, 0.0, 0), (20, 40.0, 10)], 10, Some((4.0, 1.0)));
        check(&[(0, 0.0, 0), (10, 0.0, 0), (20, 40.0, 10)], 20, Some((2.0, 0.5)));
        check(&[(0, 0.0, 0), (10, 0.0, 0), (20, 40.0, 10)], 15, Some((40.0 / 15.0, 10.0 / 15.0)));
        // The gateway started anew between the second and the third sample.
        check(&[(0, 0.0, 0), (10, 90.0, 90), (20, 5.0, 5), (22, 9.0, 7)], 60, Some((2.0, 1.0)));
    }

    #[test]
    fn only_what_an_average_needs_is_kept() {
        let samples: Vec<_> = (0..1000).map(|at| (at, at as f64, at)).collect();
        assert!(window(&samples).samples.len() <= 62);
    }
}
