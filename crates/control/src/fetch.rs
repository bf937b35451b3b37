//! Decides when a fetch that failed is tried again.

use std::time::Duration;

/// The delays between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Longest delay after the first failure.
    pub initial: Duration,
    /// No delay is longer; reached by doubling.
    pub max: Duration,
}

impl Policy {
    /// An attempt has tried each request again for some seconds by itself, so that there is no
    /// haste; two minutes after a store is back its models are served.
    pub const LOCAL: Self = Self { initial: Duration::from_secs(4), max: Duration::from_secs(120) };
}

/// How a fetch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The network, or an answer of the store that says nothing of the request: 5xx, 408, 429.
    Transient,
    /// What was asked for is wrong, or not allowed: another attempt gets the same answer.
    Permanent,
}

/// Failures in a row of one service's fetch. Starts empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    failures: u32,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try again at that time.
    Retry {
        at: Duration,
        /// Failures in a row, this one included.
        failures: u32,
    },
    /// A person has to change something first.
    GiveUp,
}

impl History {
    /// Decides what follows a fetch that failed at `now`. `random`, from 0 to 1, spreads the
    /// attempts of many clients of one store over the upper half of the delay.
    pub fn after(
        &mut self,
        policy: &Policy,
        failure: Failure,
        random: f64,
        now: Duration,
    ) -> Decision {
        if failure == Failure::Permanent {
            return Decision::GiveUp;
        }
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let longest = policy.initial.saturating_mul(factor).min(policy.max);
        self.failures = self.failures.saturating_add(1);
        // `clamp` lets NaN through.
        let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
        let delay = longest.mul_f64(0.5 + random / 2.0);
        Decision::Retry { at: now.saturating_add(delay), failures: self.failures }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn delays(random: f64) -> Vec<f64> {
        let mut history = History::default();
        let delay = |failures| match history.after(&Policy::LOCAL, Failure::Transient, random, NOW)
        {
            Decision::Retry { at, failures: counted } => {
                assert_eq!(counted, failures);
                (at - NOW).as_secs_f64()
            }
            Decision::GiveUp => panic!("a failure of the network passes"),
        };
        (1..8).map(delay).collect()
    }

    #[test]
    fn delays_double_up_to_the_maximum() {
        assert_eq!(delays(1.0), [4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0]);
        assert_eq!(delays(0.0), [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    }

    #[test]
    fn what_cannot_pass_is_given_up_at_once() {
        let mut history = History::default();
        let decision = history.after(&Policy::LOCAL, Failure::Permanent, 0.5, NOW);
        assert_eq!(decision, Decision::GiveUp);
    }

    proptest! {
        #[test]
        fn within_the_upper_half(failures in 0usize..100, random in proptest::num::f64::ANY) {
            let mut history = History::default();
            for _ in 0..failures {
                history.after(&Policy::LOCAL, Failure::Transient, 0.5, NOW);
            }
            let decision = history.after(&Policy::LOCAL, Failure::Transient, random, NOW);
            let Decision::Retry { at, .. } = decision else { panic!("{decision:?}") };
            prop_assert!(at >= NOW + Policy::LOCAL.initial / 2 && at <= NOW + Policy::LOCAL.max);
        }
    }
}
