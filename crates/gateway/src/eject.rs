//! Takes a replica that keeps failing out of the choice for a while.
//!
//! Without it, a replica that fails fast has the fewest requests in flight and draws the most
//! traffic. The scheme is Envoy's outlier detection: consecutive failures eject, each ejection in
//! a row lasts longer, and only a share of replicas may be out at once. On return the replica is
//! half open: one request probes it before the rest follow.

use std::time::{Duration, Instant};

/// When replicas are ejected and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Ejection {
    /// Failures in a row that eject.
    pub consecutive_failures: u32,
    /// The first ejection; the n-th in a row lasts n times as long.
    pub base: Duration,
    pub max: Duration,
    /// Share of a service's replicas that may be out at once, rounded down.
    pub max_share: f64,
}

impl Default for Ejection {
    // Envoy's defaults are 5 failures, 30 s, 300 s and a tenth. Ours are shorter because replicas
    // that are really dead leave the table, and wider because services here have few replicas.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            max_share: 0.5,
        }
    }
}

/// Whether requests may go to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    /// Out until the instant.
    Ejected(Instant),
    /// Its time is over; one request may try it.
    HalfOpen,
}

/// What a finished request says about its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
    /// Nothing: the client went away, or the replica refused because it is busy.
    Neutral,
}

/// The memory of one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    failures: u32,
    /// Ejections since the replica last answered well.
    ejections: u32,
    until: Option<Instant>,
}

/// What changed by an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Ejected(Instant),
    Recovered,
}

impl Record {
    pub(crate) fn health(&self, now: Instant) -> Health {
        match self.until {
            None => Health::Healthy,
            Some(until) if now < until => Health::Ejected(until),
            Some(_) => Health::HalfOpen,
        }
    }

    /// Takes in how a request ended. `others_out` of `replicas` are ejected besides this one.
    pub(crate) fn note(
        &mut self,
        outcome: Outcome,
        settings: &Ejection,
        (others_out, replicas): (usize, usize),
        now: Instant,
    ) -> Change {
        match outcome {
            Outcome::Neutral => Change::None,
            Outcome::Success => {
                self.failures = 0;
                // A request sent before the ejection may still end well. Only a probe counts.
                if self.health(now) != Health::HalfOpen {
                    return Change::None;
                }
                *self = Self::default();
                Change::Recovered
            }
            Outcome::Failure => {
                self.failures = self.failures.saturating_add(1);
                let eject = match self.health(now) {
                    Health::Ejected(_) => false,
                    Health::HalfOpen => true,
                    Health::Healthy => self.failures >= settings.consecutive_failures,
                };
                if !eject || others_out >= allowed_out(settings, replicas) {
                    return Change::None;
                }
                self.ejections = self.ejections.saturating_add(1);
                let until = now + settings.base.saturating_mul(self.ejections).min(settings.max);
                self.until = Some(until);
                Change::Ejected(until)
            }
        }
    }
}

/// How many of `replicas` may be out at once; never all of them.
fn allowed_out(settings: &Ejection, replicas: usize) -> usize {
    let share = (replicas as f64 * settings.max_share.clamp(0.0, 1.0)) as usize;
    share.min(replicas.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> Ejection {
        Ejection {
            consecutive_failures: 3,
            base: Duration::from_secs(10),
            max: Duration::from_secs(25),
            max_share: 0.5,
        }
    }

    struct Replica {
        start: Instant,
        record: Record,
    }

    impl Replica {
        fn new() -> Self {
            Self { start: Instant::now(), record: Record::default() }
        }
        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }
        fn fail(&mut self, second: u64) -> Change {
            let now = self.at(second);
            self.record.note(Outcome::Failure, &settings(), (0, 2), now)
        }
        fn succeed(&mut self, second: u64) -> Change {
            let now = self.at(second);
            self.record.note(Outcome::Success, &settings(), (0, 2), now)
        }
        fn health(&self, second: u64) -> Health {
            self.record.health(self.at(second))
        }
    }

    #[test]
    fn ejects_after_failures_in_a_row_and_longer_each_time() {
        let mut replica = Replica::new();
        assert_eq!(replica.fail(0), Change::None);
        assert_eq!(replica.fail(0), Change::None);
        assert_eq!(replica.fail(0), Change::Ejected(replica.at(10)));
        assert_eq!(replica.health(9), Health::Ejected(replica.at(10)));
        assert_eq!(replica.health(10), Health::HalfOpen);
        assert_eq!(replica.fail(11), Change::Ejected(replica.at(31)), "one failed probe is enough");
        assert_eq!(replica.fail(31), Change::Ejected(replica.at(56)), "capped at 25 s");
        assert_eq!(replica.succeed(56), Change::Recovered);
        assert_eq!(replica.health(56), Health::Healthy);
        assert_eq!(replica.fail(57), Change::None, "the count starts anew");
    }

    #[test]
    fn a_success_between_failures_resets_the_count() {
        let mut replica = Replica::new();
        for second in 0..20 {
            assert_eq!(replica.fail(second), Change::None);
            assert_eq!(replica.fail(second), Change::None);
            assert_eq!(replica.succeed(second), Change::None);
        }
    }

    #[test]
    fn a_late_success_does_not_end_an_ejection() {
        let mut replica = Replica::new();
        for _ in 0..3 {
            replica.fail(0);
        }
        assert_eq!(replica.succeed(1), Change::None);
        assert_eq!(replica.health(1), Health::Ejected(replica.at(10)));
    }

    #[test]
    fn share_table() {
        let share = |replicas| allowed_out(&settings(), replicas);
        assert_eq!([0, 1, 2, 3, 4, 10].map(share), [0, 0, 1, 1, 2, 5]);
        let all = Ejection { max_share: 7.0, ..settings() };
        assert_eq!(allowed_out(&all, 4), 3, "never the last one");
    }

    proptest! {
        #[test]
        fn never_more_out_than_allowed(
            events in proptest::collection::vec((0usize..6, any::<bool>(), 0u64..5), 1..400),
        ) {
            let start = Instant::now();
            let mut records = vec![Record::default(); 6];
            let mut now = start;
            for (index, success, seconds) in events {
                now += Duration::from_secs(seconds);
                let out = |r: &Record| matches!(r.health(now), Health::Ejected(_));
                let others = records.iter().enumerate().filter(|(i, r)| *i != index && out(r)).count();
                let outcome = if success { Outcome::Success } else { Outcome::Failure };
                records[index].note(outcome, &settings(), (others, 6), now);
                let out = records.iter().filter(|r| matches!(r.health(now), Health::Ejected(_))).count();
                prop_assert!(out <= 3);
            }
        }
    }
}
