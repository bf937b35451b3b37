//! Whether a new revision answers well enough.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_plan::Abort;

use super::decision::Reason;
use super::observed::Evidence;

/// Requests from which on a revision counts as tried. With none failed of so many, the true rate is
/// below 3% with 95% confidence (the rule of three), and a 99th percentile has a meaning.
const ENOUGH: u64 = 100;
/// Fewer failures prove nothing, whatever their share.
const FEWEST_FAILURES: u64 = 3;
/// Two-sided 99% of the normal distribution: the question is asked every second of a rollout, and
/// each time chance may answer it.
const Z: f64 = 2.576;

/// Requests that ended, and those of them that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) failures: u64,
}

/// What the evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// Too few requests, or an error rate that looks too high and may be chance.
    Unclear,
    Bad(Reason),
}

impl Counts {
    pub(super) fn of(evidence: &Evidence) -> Self {
        // More failures than requests can only be two counters read at two moments.
        let Evidence { requests, failures, .. } = *evidence;
        Self { requests, failures: failures.min(requests) }
    }

    /// What came since `before`, which starts at zero again if the counters did.
    pub(super) fn since(self, before: &mut Self) -> Self {
        if self.requests < before.requests || self.failures < before.failures {
            *before = Self::default();
        }
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
        }
    }

    fn error_rate(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
    }

    /// The lower end of the error rate's confidence interval (Wilson's), which holds for few
    /// requests and rates near zero too.
    fn lowest_error_rate(self) -> f64 {
        if self.requests == 0 {
            return 0.0;
        }
        let n = self.requests as f64;
        let rate = self.error_rate();
        let centre = rate + Z * Z / (2.0 * n);
        let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        (centre - half) / (1.0 + Z * Z / n)
    }
}

/// Judges a revision by its requests and those of the old one in the same time.
pub(super) fn judge(abort: &Abort, new: Counts, p99: Option<Duration>, old: Counts) -> Verdict {
    let mut unclear = false;
    if let Some(allowed) = abort.error_rate {
        let bar = allowed.fraction().max(old.error_rate());
        if new.failures >= FEWEST_FAILURES && new.lowest_error_rate() > bar {
            return Verdict::Bad(Reason::ErrorRateTooHigh);
        }
        unclear |= new.requests < ENOUGH || new.error_rate() > bar;
    }
    if let Some(allowed) = abort.p99 {
        if new.requests >= ENOUGH && p99.is_some_and(|p99| p99 > allowed) {
            return Verdict::Bad(Reason::LatencyTooHigh);
        }
        unclear |= new.requests < ENOUGH;
    }
    if unclear { Verdict::Unclear } else { Verdict::Good }
}

#[cfg(test)]
mod tests {
    use trainyard_api::scalar::Percent;

    use super::*;

    const BAD_RATE: Verdict = Verdict::Bad(Reason::ErrorRateTooHigh);
    const BAD_P99: Verdict = Verdict::Bad(Reason::LatencyTooHigh);

    #[track_caller]
    fn errors(percent: u16, new: (u64, u64), old: (u64, u64), expected: Verdict) {
        let abort = Abort { error_rate: Some(Percent::whole(percent)), p99: None };
        let counts = |(requests, failures)| Counts { requests, failures };
        assert_eq!(judge(&abort, counts(new), None, counts(old)), expected);
    }

    #[test]
    fn error_rate_table() {
        errors(5, (0, 0), (1000, 0), Verdict::Unclear);
        errors(5, (99, 0), (1000, 0), Verdict::Unclear);
        errors(5, (100, 0), (1000, 0), Verdict::Good);
        errors(5, (100, 5), (1000, 0), Verdict::Good);
        // A little above the bar: it may be chance, so more requests are asked for.
        errors(5, (100, 8), (1000, 0), Verdict::Unclear);
        errors(5, (1000, 80), (1000, 0), BAD_RATE);
        // All fail: three are enough.
        errors(5, (2, 2), (1000, 0), Verdict::Unclear);
        errors(5, (3, 3), (1000, 0), BAD_RATE);
        // The old revision fails as often: it is not the new one's fault.
        errors(5, (1000, 300), (1000, 300), Verdict::Good);
        errors(5, (1000, 400), (1000, 300), BAD_RATE);
        // One failure in few requests of a strict service.
        errors(1, (10, 1), (1000, 0), Verdict::Unclear);
        errors(0, (1000, 3), (1000, 0), BAD_RATE);
    }

    #[track_caller]
    fn latency(requests: u64, p99_ms: Option<u64>, expected: Verdict) {
        let abort = Abort { error_rate: None, p99: Some(Duration::from_millis(50)) };
        let p99 = p99_ms.map(Duration::from_millis);
        let new = Counts { requests, failures: 0 };
        assert_eq!(judge(&abort, new, p99, Counts::default()), expected);
    }

    #[test]
    fn latency_table() {
        latency(0, None, Verdict::Unclear);
        latency(99, Some(500), Verdict::Unclear);
        latency(100, Some(500), BAD_P99);
        latency(100, Some(50), Verdict::Good);
        latency(100, None, Verdict::Good);
    }

    #[test]
    fn without_limits_everything_is_good() {
        let new = Counts { requests: 10, failures: 10 };
        assert_eq!(judge(&Abort::default(), new, None, Counts::default()), Verdict::Good);
    }

    #[test]
    fn counters_that_start_anew_are_counted_from_zero() {
        let mut before = Counts { requests: 500, failures: 5 };
        let seen = Counts { requests: 20, failures: 1 };
        assert_eq!(seen.since(&mut before), seen);
        let later = Counts { requests: 700, failures: 6 };
        assert_eq!(later.since(&mut before), later);
    }
}
