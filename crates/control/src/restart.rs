//! Decides when a replica that ended starts again.

use std::time::Duration;

/// The delays of one back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Delay after the first failure.
    pub initial: Duration,
    /// No delay is longer; reached by doubling.
    pub max: Duration,
    /// A replica that ran so long was healthy: its next failure counts as the first.
    pub healthy_after: Duration,
    /// From so many failures in a row on it is a crash loop.
    pub crash_loop_after: u32,
}

impl Policy {
    /// Kubernetes' own: 10 s doubling to 5 min, forgotten after 10 min (kubelet's `MaxContainerBackOff`
    /// and its back-off's reset at twice the maximum).
    pub const KUBERNETES: Self = Self {
        initial: Duration::from_secs(10),
        max: Duration::from_secs(300),
        healthy_after: Duration::from_secs(600),
        crash_loop_after: 3,
    };

    /// For processes: a start costs milliseconds and no image pull, and somebody is watching.
    pub const LOCAL: Self = Self {
        initial: Duration::from_millis(200),
        max: Duration::from_secs(30),
        healthy_after: Duration::from_secs(60),
        crash_loop_after: 5,
    };
}

/// How a replica ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It left with this status, 0 included: a server that leaves by itself has failed.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// The kernel ended it for its memory limit.
    OutOfMemory,
    /// It did not become ready before its startup probe's deadline, and was ended.
    NeverReady,
    /// Its liveness probe failed, and it was ended.
    Unresponsive,
    /// It could not be started at all.
    NotStarted,
}

/// Failures in a row of one replica. Starts empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    failures: u32,
}

/// When to start again, and why not at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// The time to start at.
    pub at: Duration,
    pub reason: Reason,
    pub ending: Ending,
    /// Failures in a row, this one included.
    pub failures: u32,
}

/// Why a restart waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It failed; the delay grows with each failure.
    BackOff,
    /// It failed again and again, and somebody should look.
    CrashLoop,
}

impl Reason {
    /// The event's reason and the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackOff => "BackOff",
            Self::CrashLoop => "CrashLoopBackOff",
        }
    }
}

impl History {
    /// Decides when a replica that ended at `now`, after it had run for `ran_for`, starts again.
    pub fn after(
        &mut self,
        policy: &Policy,
        ending: Ending,
        ran_for: Duration,
        now: Duration,
    ) -> Restart {
        if ran_for >= policy.healthy_after {
            self.failures = 0;
        }
        let delay = delay(policy, self.failures);
        self.failures = self.failures.saturating_add(1);
        let reason = if self.failures >= policy.crash_loop_after {
            Reason::CrashLoop
        } else {
            Reason::BackOff
        };
        Restart { at: now.saturating_add(delay), reason, ending, failures: self.failures }
    }
}

/// `initial × 2^failures`, at most `max`.
fn delay(policy: &Policy, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
    policy.initial.saturating_mul(factor).min(policy.max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut history = History::default();
        let mut now = Duration::ZERO;
        let mut delays = Vec::new();
        for _ in 0..7 {
            let restart = history.after(&Policy::KUBERNETES, Ending::Exited(1), SECOND, now);
            delays.push((restart.at - now).as_secs());
            now = restart.at + SECOND;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn many_failures_in_a_row_are_a_crash_loop() {
        let mut history = History::default();
        let reasons: Vec<Reason> = (0..6)
            .map(|_| history.after(&Policy::LOCAL, Ending::Signalled(9), SECOND, SECOND).reason)
            .collect();
        use Reason::{BackOff, CrashLoop};
        assert_eq!(reasons, [BackOff, BackOff, BackOff, BackOff, CrashLoop, CrashLoop]);
    }

    #[test]
    fn a_healthy_run_forgets_earlier_failures() {
        let mut history = History::default();
        for _ in 0..10 {
            history.after(&Policy::LOCAL, Ending::NeverReady, SECOND, SECOND);
        }
        let restart =
            history.after(&Policy::LOCAL, Ending::Exited(0), Policy::LOCAL.healthy_after, SECOND);
        assert_eq!(restart.at, SECOND + Policy::LOCAL.initial);
        assert_eq!((restart.reason, restart.failures), (Reason::BackOff, 1));
    }

    proptest! {
        #[test]
        fn never_before_now_and_never_later_than_the_maximum(
            runs in proptest::collection::vec(0u64..1000, 1..100),
        ) {
            let mut history = History::default();
            for seconds in runs {
                let ran_for = Duration::from_secs(seconds);
                let restart = history.after(&Policy::LOCAL, Ending::Exited(1), ran_for, SECOND);
                prop_assert!(restart.at >= SECOND + Policy::LOCAL.initial);
                prop_assert!(restart.at <= SECOND + Policy::LOCAL.max);
            }
        }
    }
}
