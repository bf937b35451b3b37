//! The decision.

use std::collections::VecDeque;
use std::time::Duration;

use trainyard_plan::Scaling;

use super::window::{Demand, Sample, Window};

/// How long demand is averaged, and how fast the count may change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Windows {
    /// Demand is followed by its mean over this, and taken as fallen only if it stayed low for it.
    pub stable: Duration,
    /// A burst is judged by the mean over this.
    pub panic: Duration,
    /// A burst is demand of so many times what the replicas are meant to carry.
    pub panic_threshold: f64,
    /// One decision takes away no more than all but this share of the replicas.
    pub keep_at_least: f64,
}

impl Default for Windows {
    /// Knative's: 60 s, a tenth of it, 200%, and halving at the most.
    fn default() -> Self {
        Self {
            stable: Duration::from_secs(60),
            panic: Duration::from_secs(6),
            panic_threshold: 2.0,
            keep_at_least: 0.5,
        }
    }
}

/// The replicas that a service has. Draining and failed ones are in neither count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    pub ready: u32,
    pub starting: u32,
}

/// How many replicas there should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Within the plan's `min` and `max`.
    pub replicas: u32,
    /// What demand asks for, before `min` and `max`: the difference is worth telling.
    pub wanted: u32,
    pub reason: Reason,
}

/// What the latest decision was made from, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Observed {
    /// Mean of the requests in flight or held, over the stable window.
    pub stable_concurrency: f64,
    /// The same over the panic window.
    pub panic_concurrency: f64,
    /// A burst was seen within the stable window: nothing is taken away.
    pub panicking: bool,
}

/// Why a decision is what it is: the event's reason and the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing was observed lately; the count stays.
    NoData,
    /// Demand fits the replicas, or did not stay low for long enough.
    Steady,
    /// The stable average needs more replicas.
    DemandRose,
    /// The panic average needs at least twice the replicas.
    Burst,
    /// Requests wait for a service that is at zero.
    RequestsHeld,
    /// Demand stayed low for the whole stable window.
    DemandFell,
    /// No request for `scaleToZeroAfter`.
    Idle,
    /// The plan's `min` or `max` changed.
    LimitsChanged,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoData => "NoData",
            Self::Steady => "Steady",
            Self::DemandRose => "DemandRose",
            Self::Burst => "Burst",
            Self::RequestsHeld => "RequestsHeld",
            Self::DemandFell => "DemandFell",
            Self::Idle => "Idle",
            Self::LimitsChanged => "LimitsChanged",
        }
    }
}

/// What is remembered of one service between decisions.
#[derive(Debug, Clone)]
pub struct Autoscaler {
    windows: Windows,
    seen: Window,
    /// Panic averages of the last stable window, for its peak.
    recent: VecDeque<(Duration, Demand)>,
    /// First sample since the counters started.
    observed_since: Option<Duration>,
    /// Last moment at which a request arrived or was in flight.
    active_at: Duration,
    /// Since when a replica has been ready without a gap.
    ready_since: Option<Duration>,
    /// Last moment at which the panic threshold was reached, while panicking.
    panic_at: Option<Duration>,
    arrivals: u64,
}

impl Autoscaler {
    pub fn new(windows: Windows) -> Self {
        Self {
            windows,
            seen: Window::default(),
            recent: VecDeque::new(),
            observed_since: None,
            active_at: Duration::ZERO,
            ready_since: None,
            panic_at: None,
            arrivals: 0,
        }
    }

    /// Takes in the gateway's counters; one sample every second or two is enough.
    pub fn observe(&mut self, sample: Sample) {
        if self.seen.push(sample, self.windows.stable) || self.observed_since.is_none() {
            self.observed_since = Some(sample.at);
            self.active_at = self.active_at.max(sample.at);
        }
        if sample.arrivals != self.arrivals || sample.in_flight > 0 || sample.held > 0 {
            self.active_at = self.active_at.max(sample.at);
        }
        self.arrivals = sample.arrivals;
        if let Some(demand) = self.seen.mean_over(self.windows.panic) {
            self.recent.push_back((sample.at, demand));
        }
        let start = sample.at.saturating_sub(self.windows.stable);
        while self.recent.front().is_some_and(|(at, _)| *at < start) {
            self.recent.pop_front();
        }
    }

    /// What it sees, as of the latest sample and decision.
    pub fn observed(&self) -> Observed {
        let mean = |window| self.seen.mean_over(window).unwrap_or_default().concurrency;
        Observed {
            stable_concurrency: mean(self.windows.stable),
            panic_concurrency: mean(self.windows.panic),
            panicking: self.panic_at.is_some(),
        }
    }

    /// Decides the replica count at `now`.
    pub fn decide(&mut self, spec: &Scaling, have: Replicas, now: Duration) -> Decision {
        match (have.ready, self.ready_since) {
            (0, _) => self.ready_since = None,
            (_, None) => self.ready_since = Some(now),
            _ => {}
        }
        let total = have.ready.saturating_add(have.starting);
        let limits = Limits::of(spec);

        let Some(held) = self.fresh_sample(now).map(|sample| sample.held) else {
            return limits.decision(total, total, Reason::NoData);
        };
        if total == 0 {
            // At zero there is nothing to average: whoever waits is the demand.
            let wanted = replicas_for(spec, Demand { concurrency: f64::from(held), rps: 0.0 });
            let reason = if held > 0 { Reason::RequestsHeld } else { Reason::Steady };
            return limits.decision(wanted, total, reason);
        }

        let stable = self.seen.mean_over(self.windows.stable).unwrap_or_default();
        let panic = self.seen.mean_over(self.windows.panic).unwrap_or_default();
        let wanted_stable = replicas_for(spec, stable);
        let wanted_panic = replicas_for(spec, panic);

        // Not by whole replicas: half a replica too few would count as a whole one, and a pair would
        // panic at the least of demand.
        if load(spec, panic) >= self.windows.panic_threshold * f64::from(total) {
            self.panic_at = Some(now);
        }
        let panicking =
            self.panic_at.is_some_and(|at| now.saturating_sub(at) < self.windows.stable);
        if !panicking {
            self.panic_at = None;
        }

        if panicking && wanted_panic > total {
            return limits.decision(wanted_panic, total, Reason::Burst);
        }
        if wanted_stable > total {
            return limits.decision(wanted_stable, total, Reason::DemandRose);
        }
        let wanted = self.peak(spec).max(wanted_stable);
        if panicking || wanted >= total || !self.saw_a_whole_window(now) {
            return limits.decision(total, total, Reason::Steady);
        }
        if wanted == 0 {
            return self.towards_zero(spec, total, now);
        }
        let floor = f64::from(total) * self.windows.keep_at_least;
        // At least one goes, or a pair would never become one.
        let floor = (floor as u32).min(total.saturating_sub(1));
        limits.decision(wanted.max(floor), total, Reason::DemandFell)
    }

    /// The last replica stays until the service was idle for long enough, and was ready at all.
    fn towards_zero(&self, spec: &Scaling, total: u32, now: Duration) -> Decision {
        let limits = Limits::of(spec);
        if total > 1 {
            let floor = f64::from(total) * self.windows.keep_at_least;
            let floor = (floor as u32).clamp(1, total.saturating_sub(1));
            return limits.decision(floor, total, Reason::DemandFell);
        }
        let idle_since = self.ready_since.map(|ready| ready.max(self.active_at));
        let is_idle =
            idle_since.is_some_and(|since| now.saturating_sub(since) >= spec.scale_to_zero_after);
        if is_idle && spec.min == 0 {
            return Decision { replicas: 0, wanted: 0, reason: Reason::Idle };
        }
        limits.decision(total, total, Reason::Steady)
    }

    /// Replicas for the highest panic average of the stable window.
    fn peak(&self, spec: &Scaling) -> u32 {
        self.recent.iter().map(|(_, demand)| replicas_for(spec, *demand)).max().unwrap_or(0)
    }

    fn saw_a_whole_window(&self, now: Duration) -> bool {
        self.observed_since.is_some_and(|since| now.saturating_sub(since) >= self.windows.stable)
    }

    /// The latest sample, unless it is older than the panic window: stale counters show a calm
    /// that may not be there.
    fn fresh_sample(&self, now: Duration) -> Option<&Sample> {
        self.seen.latest().filter(|sample| now.saturating_sub(sample.at) <= self.windows.panic)
    }
}

/// The replicas that carry a demand at the plan's targets; the metric that needs most decides.
fn replicas_for(spec: &Scaling, demand: Demand) -> u32 {
    let wanted = ceil(load(spec, demand));
    // Without a target, or below any rounding, whoever asks needs one replica.
    let somebody_asks = demand.concurrency > 0.0 || demand.rps > 0.0;
    wanted.max(u32::from(somebody_asks))
}

/// A demand in replicas and parts of them.
fn load(spec: &Scaling, demand: Demand) -> f64 {
    let by = |demand: f64, target: Option<f64>| match target {
        Some(target) if target > 0.0 => demand / target,
        _ => 0.0,
    };
    by(demand.concurrency, spec.concurrency).max(by(demand.rps, spec.rps))
}

/// Rounds up, but not for what floating point adds to a whole number.
fn ceil(value: f64) -> u32 {
    const NOISE: f64 = 1e-9;
    // `as` saturates, and makes NaN 0.
    (value - NOISE).ceil() as u32
}

/// The plan's bounds, `max` winning where they cross.
struct Limits {
    min: u32,
    max: u32,
}

impl Limits {
    fn of(spec: &Scaling) -> Self {
        Self { min: spec.min.min(spec.max), max: spec.max }
    }

    fn decision(&self, wanted: u32, total: u32, reason: Reason) -> Decision {
        let replicas = wanted.clamp(self.min, self.max);
        // Where the bound alone moves the count, the bound is the reason.
        let moved_by_limits = replicas != total
            && (wanted == total
                || (wanted < total && replicas > total)
                || (wanted > total && replicas < total));
        let reason = if moved_by_limits { Reason::LimitsChanged } else { reason };
        Decision { replicas, wanted, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: Scaling = Scaling {
        min: 1,
        max: 8,
        concurrency: Some(10.0),
        max_concurrency: None,
        rps: None,
        cpu: None,
        memory: None,
        gpu: None,
        scale_to_zero_after: Duration::from_secs(300),
    };
    const TO_ZERO: Scaling = Scaling { min: 0, ..SPEC };

    /// A service in virtual time: a second a tick, replicas ready `start` seconds after they were
    /// ordered.
    struct World {
        scaler: Autoscaler,
        spec: Scaling,
        now: u64,
        request_seconds: f64,
        arrivals: u64,
        ready: u32,
        starting: Vec<u64>,
        start: u64,
        reasons: Vec<Reason>,
    }

    impl World {
        fn new(spec: Scaling, ready: u32) -> Self {
            let scaler = Autoscaler::new(Windows::default());
            let (starting, reasons) = (Vec::new(), Vec::new());
            Self {
                scaler,
                spec,
                now: 0,
                request_seconds: 0.0,
                arrivals: 0,
                ready,
                starting,
                start: 5,
                reasons,
            }
        }

        /// Runs for some seconds with so many requests in flight, each a tenth of a second long.
        fn run(&mut self, seconds: u64, in_flight: u32) -> &mut Self {
            for _ in 0..seconds {
                self.now += 1;
                self.request_seconds += f64::from(in_flight);
                self.arrivals += u64::from(in_flight) * 10;
                let now = self.now;
                let became_ready = self.starting.iter().filter(|at| **at <= now).count();
                self.starting.retain(|at| *at > now);
                self.ready += u32::try_from(became_ready).expect("few");
                let held = if self.ready == 0 { in_flight } else { 0 };
                let at = Duration::from_secs(self.now);
                self.scaler.observe(Sample {
                    at,
                    request_seconds: self.request_seconds,
                    arrivals: self.arrivals,
                    held,
                    in_flight,
                });
                let starting = u32::try_from(self.starting.len()).expect("few");
                let have = Replicas { ready: self.ready, starting };
                let decision = self.scaler.decide(&self.spec, have, at);
                assert!((self.spec.min..=self.spec.max).contains(&decision.replicas));
                let total = have.ready + have.starting;
                if decision.replicas != total {
                    self.reasons.push(decision.reason);
                }
                for _ in total..decision.replicas {
                    self.starting.push(self.now + self.start);
                }
                for _ in decision.replicas..total {
                    if self.starting.pop().is_none() {
                        self.ready -= 1;
                    }
                }
            }
            self
        }

        fn total(&self) -> usize {
            self.ready as usize + self.starting.len()
        }
    }

    #[test]
    fn without_data_nothing_changes() {
        let mut scaler = Autoscaler::new(Windows::default());
        let have = Replicas { ready: 3, starting: 0 };
        let decision = scaler.decide(&SPEC, have, Duration::from_secs(100));
        assert_eq!(decision, Decision { replicas: 3, wanted: 3, reason: Reason::NoData });
    }

    #[test]
    fn stale_data_is_no_data() {
        let mut world = World::new(SPEC, 3);
        world.run(100, 0);
        let have = Replicas { ready: 3, starting: 0 };
        let decision = world.scaler.decide(&SPEC, have, Duration::from_secs(200));
        assert_eq!(decision.reason, Reason::NoData);
    }

    #[test]
    fn a_slow_rise_follows_the_stable_average() {
        let mut world = World::new(SPEC, 1);
        world.run(120, 8).run(120, 15);
        assert_eq!(world.total(), 2);
        assert_eq!(world.reasons, [Reason::DemandRose]);
    }

    #[test]
    fn a_burst_is_followed_within_seconds() {
        let mut world = World::new(SPEC, 1);
        world.run(120, 5).run(5, 60);
        assert!(world.total() >= 4, "{}", world.total());
        assert_eq!(world.reasons.first(), Some(&Reason::Burst));
        world.run(5, 60);
        assert_eq!(world.total(), 6);
    }

    #[test]
    fn starting_replicas_are_not_ordered_again() {
        let mut world = World::new(SPEC, 1);
        world.start = 1000;
        world.run(120, 40);
        assert_eq!((world.ready, world.total()), (1, 4));
    }

    #[test]
    fn a_dip_is_not_a_trend() {
        let mut world = World::new(SPEC, 4);
        world.run(120, 40).run(40, 0).run(20, 40);
        assert_eq!(world.total(), 4);
        assert_eq!(world.reasons, []);
    }

    #[test]
    fn demand_that_stays_low_for_the_whole_window_is() {
        let mut world = World::new(SPEC, 4);
        world.run(120, 40).run(59, 3);
        assert_eq!(world.total(), 4);
        world.run(30, 3);
        assert_eq!(world.total(), 1);
        assert!(world.reasons.iter().all(|reason| *reason == Reason::DemandFell));
    }

    #[test]
    fn nothing_is_taken_away_before_a_whole_window_was_seen() {
        let mut world = World::new(SPEC, 4);
        world.run(59, 0);
        assert_eq!(world.total(), 4);
    }

    #[test]
    fn one_decision_takes_at_most_half() {
        let mut world = World::new(SPEC, 8);
        world.run(61, 1);
        assert_eq!(world.total(), 4);
        world.run(1, 1);
        assert_eq!(world.total(), 2);
    }

    #[test]
    fn the_last_replica_goes_only_after_the_idle_time() {
        let mut world = World::new(TO_ZERO, 2);
        world.run(100, 5).run(299, 0);
        assert_eq!(world.total(), 1);
        world.run(2, 0);
        assert_eq!(world.total(), 0);
        assert_eq!(world.reasons.last(), Some(&Reason::Idle));
    }

    #[test]
    fn one_request_in_the_idle_time_starts_it_anew() {
        let mut world = World::new(TO_ZERO, 1);
        world.run(299, 0).run(1, 1).run(299, 0);
        assert_eq!(world.total(), 1);
    }

    #[test]
    fn a_held_request_wakes_a_service_at_zero() {
        let mut world = World::new(TO_ZERO, 0);
        world.run(100, 0);
        assert_eq!(world.total(), 0);
        world.run(1, 1);
        assert_eq!(world.total(), 1);
        assert_eq!(world.reasons, [Reason::RequestsHeld]);
    }

    #[test]
    fn a_service_that_was_never_ready_is_not_taken_to_zero() {
        let mut world = World::new(TO_ZERO, 0);
        world.start = 10_000;
        world.run(1, 1).run(2000, 0);
        assert_eq!(world.total(), 1);
    }

    #[test]
    fn the_idle_time_starts_when_the_service_became_ready() {
        let mut world = World::new(TO_ZERO, 0);
        world.start = 1000;
        world.run(1, 1).run(1290, 0);
        assert_eq!(world.total(), 1);
        world.run(20, 0);
        assert_eq!(world.total(), 0);
    }

    #[test]
    fn changed_limits_act_at_once() {
        let mut world = World::new(SPEC, 1);
        world.run(10, 1);
        world.spec.min = 3;
        world.run(1, 1);
        assert_eq!(world.total(), 3);
        assert_eq!(world.reasons, [Reason::LimitsChanged]);
        (world.spec.min, world.spec.max) = (1, 2);
        world.run(1, 1);
        assert_eq!(world.total(), 2);
    }

    #[test]
    fn requests_per_second_scale_too() {
        let mut world = World::new(Scaling { concurrency: None, rps: Some(100.0), ..SPEC }, 1);
        // Ten arrivals a second for each one in flight.
        world.run(200, 25);
        assert_eq!(world.total(), 3);
    }

    #[test]
    fn what_max_holds_back_is_told() {
        let mut world = World::new(SPEC, 8);
        world.run(120, 200);
        let have = Replicas { ready: 8, starting: 0 };
        let decision = world.scaler.decide(&SPEC, have, Duration::from_secs(120));
        assert_eq!((decision.replicas, decision.wanted), (8, 20));
    }

    proptest! {
        /// Constant demand leads to the count that carries it, from any start, and stays there.
        #[test]
        fn converges(ready in 1u32..=8, in_flight in 0u32..200, start in 0u64..30) {
            let mut world = World::new(SPEC, ready);
            world.start = start;
            world.run(600, in_flight);
            let settled = world.total();
            prop_assert_eq!(settled, in_flight.div_ceil(10).clamp(1, 8) as usize);
            world.reasons.clear();
            world.run(200, in_flight);
            prop_assert_eq!(world.total(), settled);
            prop_assert!(world.reasons.is_empty());
        }

        /// Whatever the traffic, the bounds hold (checked at each tick) and requests are never
        /// left at zero.
        #[test]
        fn traffic_never_meets_zero_for_long(traffic in proptest::collection::vec(0u32..100, 1..40)) {
            let mut world = World::new(TO_ZERO, 0);
            for in_flight in traffic {
                world.run(20, in_flight);
                prop_assert!(in_flight == 0 || world.ready > 0);
            }
        }
    }
}
