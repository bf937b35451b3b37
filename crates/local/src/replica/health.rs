//! What probes say of a replica. The meanings are Kubernetes'.

use std::time::Duration;

use trainyard_plan::{Probe, Probes};

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

/// What a result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// Requests may come.
    Ready,
    /// No more requests, for now.
    Unready,
    /// It had its time to start.
    NeverReady,
    /// It has to be restarted.
    Unresponsive,
}

/// The memory of a replica's probes. A new process starts with a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    started: bool,
    ready: bool,
    readiness_failures: u32,
    liveness_failures: u32,
}

impl Health {
    /// Whether the startup probe has passed.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// A probe passed.
    pub(crate) fn pass(&mut self, kind: Kind) -> Change {
        match kind {
            Kind::Startup => self.started = true,
            Kind::Liveness => self.liveness_failures = 0,
            Kind::Readiness => {
                self.readiness_failures = 0;
                if !self.ready {
                    self.ready = true;
                    return Change::Ready;
                }
            }
        }
        Change::None
    }

    /// A probe failed, `running_for` after the process started.
    ///
    /// The startup probe fails for good by time, not by count: at first we ask more often than its
    /// period says, and a replica must not lose patience for that.
    pub(crate) fn fail(&mut self, kind: Kind, probes: &Probes, running_for: Duration) -> Change {
        match kind {
            Kind::Startup => {
                let patience = probes.startup.period.saturating_mul(probes.startup.failures);
                if running_for >= patience { Change::NeverReady } else { Change::None }
            }
            Kind::Readiness => {
                self.readiness_failures = self.readiness_failures.saturating_add(1);
                if self.ready && self.readiness_failures >= probes.readiness.failures {
                    self.ready = false;
                    return Change::Unready;
                }
                Change::None
            }
            Kind::Liveness => {
                self.liveness_failures = self.liveness_failures.saturating_add(1);
                match self.liveness_failures >= probes.liveness.failures {
                    true => Change::Unresponsive,
                    false => Change::None,
                }
            }
        }
    }
}

/// Time until the next probe of a process that still starts: short at first, so that a tiny model
/// answers at once, then a twentieth of the time passed, up to the probe's period.
pub(crate) fn startup_delay(running_for: Duration, probe: &Probe) -> Duration {
    // Less than that is more work than what it waits for.
    const SHORTEST: Duration = Duration::from_millis(5);
    (running_for / 20).max(SHORTEST).min(probe.period.max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use trainyard_plan::Check;

    use super::*;

    fn probes() -> Probes {
        let probe = |seconds, failures| Probe {
            check: Check::Tcp { port: "http".to_owned() },
            period: Duration::from_secs(seconds),
            timeout: Duration::from_secs(1),
            failures,
        };
        Probes { startup: probe(1, 60), readiness: probe(1, 3), liveness: probe(10, 2) }
    }

    #[test]
    fn startup_fails_by_time() {
        let mut health = Health::default();
        for _ in 0..1000 {
            let change = health.fail(Kind::Startup, &probes(), Duration::from_secs(59));
            assert_eq!(change, Change::None);
        }
        let change = health.fail(Kind::Startup, &probes(), Duration::from_secs(60));
        assert_eq!(change, Change::NeverReady);
        assert!(!health.has_started());
        health.pass(Kind::Startup);
        assert!(health.has_started());
    }

    #[test]
    fn readiness_falls_after_failures_in_a_row_and_rises_at_once() {
        let mut health = Health::default();
        let fail = |health: &mut Health| health.fail(Kind::Readiness, &probes(), Duration::ZERO);
        assert_eq!(fail(&mut health), Change::None, "it was not ready before");
        assert_eq!(health.pass(Kind::Readiness), Change::Ready);
        assert_eq!(health.pass(Kind::Readiness), Change::None);
        for _ in 0..2 {
            assert_eq!(fail(&mut health), Change::None);
        }
        health.pass(Kind::Readiness);
        for expected in [Change::None, Change::None, Change::Unready, Change::None] {
            assert_eq!(fail(&mut health), expected);
        }
        assert_eq!(health.pass(Kind::Readiness), Change::Ready);
    }

    #[test]
    fn liveness_ends_after_failures_in_a_row() {
        let mut health = Health::default();
        let fail = |health: &mut Health| health.fail(Kind::Liveness, &probes(), Duration::ZERO);
        assert_eq!(fail(&mut health), Change::None);
        health.pass(Kind::Liveness);
        assert_eq!(fail(&mut health), Change::None);
        assert_eq!(fail(&mut health), Change::Unresponsive);
    }

    #[test]
    fn the_first_probes_come_fast() {
        let delay = |ms| startup_delay(Duration::from_millis(ms), &probes().startup).as_millis();
        assert_eq!([0, 50, 100, 1000, 20_000, 600_000].map(delay), [5, 5, 5, 50, 1000, 1000]);
    }
}
