//! Rollouts in virtual time: a second a tick, and a back end that does what it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use trainyard_api::scalar::Percent;
use trainyard_plan::{Abort, RevisionName, Rollout, Strategy as Plan};

use super::*;

/// How the replicas of a revision behave.
#[derive(Debug, Clone, Copy)]
struct Behaviour {
    /// Seconds from start to ready; none: never.
    start: Option<u64>,
    /// It ends so many seconds after its start, again and again.
    crash_after: Option<u64>,
    /// Failures in a hundred requests.
    failures: u64,
    p99_ms: u64,
}

const GOOD: Behaviour = Behaviour { start: Some(3), crash_after: None, failures: 0, p99_ms: 10 };

#[derive(Debug, Clone, Copy, PartialEq)]
enum Replica {
    /// Since when.
    Starting(u64),
    Ready(u64),
    /// Until when.
    Draining(u64),
    Failed(u64),
}

struct World {
    state: State,
    rollout: Rollout,
    target: RevisionName,
    wanted: u32,
    /// Something else counts the stable revision's replicas.
    stable_stays: bool,
    now: u64,
    behaviour: BTreeMap<RevisionName, Behaviour>,
    replicas: BTreeMap<RevisionName, Vec<Replica>>,
    crashes: BTreeMap<RevisionName, u32>,
    evidence: BTreeMap<RevisionName, Evidence>,
    /// Requests a second.
    rps: u64,
    drain: u64,
    last: Option<Decision>,
    told: Vec<Reason>,
}

fn name(name: &str) -> RevisionName {
    RevisionName::stored(name)
}

fn rolling() -> Rollout {
    Rollout::straight()
}

fn canary(steps: &[u8]) -> Rollout {
    let pause = Duration::from_secs(60);
    Rollout { strategy: Plan::Canary { steps: steps.to_vec(), pause }, ..Rollout::straight() }
}

fn blue_green() -> Rollout {
    let pause = Duration::from_secs(60);
    Rollout { strategy: Plan::BlueGreen { pause }, ..Rollout::straight() }
}

fn with_error_rate(rollout: Rollout, percent: u16) -> Rollout {
    Rollout { abort: Abort { error_rate: Some(Percent::whole(percent)), p99: None }, ..rollout }
}

impl World {
    /// A service whose revision `a` is stable, with all its replicas ready.
    fn new(rollout: Rollout, wanted: u32) -> Self {
        let mut world = Self::empty(rollout, wanted);
        world.run(20);
        assert_eq!(world.state.stable(), Some(&name("a")));
        world.told.clear();
        world
    }

    /// A service that never ran.
    fn empty(rollout: Rollout, wanted: u32) -> Self {
        Self {
            state: State::default(),
            rollout,
            target: name("a"),
            wanted,
            stable_stays: false,
            now: 1000,
            behaviour: BTreeMap::new(),
            replicas: BTreeMap::new(),
            crashes: BTreeMap::new(),
            evidence: BTreeMap::new(),
            rps: 100,
            drain: 2,
            last: None,
            told: Vec::new(),
        }
    }

    fn roll_out(&mut self, revision: &str, behaviour: Behaviour) -> &mut Self {
        self.target = name(revision);
        self.behaviour.insert(self.target.clone(), behaviour);
        self
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.tick();
        }
        self
    }

    fn tick(&mut self) {
        self.now += 1;
        self.live();
        let revisions = self.observe();
        let before = self.state.clone();
        let observed = Observed {
            rollout: &self.rollout,
            target: &self.target,
            wanted: self.wanted,
            stable_stays: self.stable_stays,
            revisions: &revisions,
            now: Duration::from_secs(self.now),
        };
        let decision = self.state.decide(&observed);
        check_laws(&before, &self.state, &observed, &decision);
        if self.last.as_ref().map(|last| last.reason) != Some(decision.reason) {
            self.told.push(decision.reason);
        }
        self.carry_out(&decision);
        self.last = Some(decision);
    }

    /// A second passes for every replica.
    fn live(&mut self) {
        let now = self.now;
        for (revision, replicas) in &mut self.replicas {
            let behaviour = self.behaviour.get(revision).copied().unwrap_or(GOOD);
            for replica in replicas.iter_mut() {
                *replica = match *replica {
                    Replica::Starting(at) | Replica::Ready(at)
                        if behaviour.crash_after.is_some_and(|after| now >= at + after) =>
                    {
                        *self.crashes.entry(revision.clone()).or_default() += 1;
                        Replica::Failed(now + 2)
                    }
                    Replica::Starting(at)
                        if behaviour.start.is_some_and(|start| now >= at + start) =>
                    {
                        Replica::Ready(at)
                    }
                    Replica::Failed(until) if now >= until => Replica::Starting(now),
                    other => other,
                };
            }
            replicas
                .retain(|replica| !matches!(replica, Replica::Draining(until) if now >= *until));
        }
        let Some(last) = &self.last else { return };
        for (revision, allotment) in &last.revisions {
            let behaviour = self.behaviour.get(revision).copied().unwrap_or(GOOD);
            let mirrored = last.mirror.as_ref().filter(|mirror| mirror.to == *revision);
            let requests = self.rps * u64::from(allotment.weight) / 100
                + mirrored
                    .map_or(0, |mirror| u64::from(mirror.share.whole_percent()) * self.rps / 100);
            let evidence = self.evidence.entry(revision.clone()).or_default();
            evidence.requests += requests;
            evidence.failures += requests * behaviour.failures / 100;
            evidence.p99 = (requests > 0).then(|| Duration::from_millis(behaviour.p99_ms));
        }
    }

    fn observe(&self) -> BTreeMap<RevisionName, Revision> {
        self.replicas
            .iter()
            .filter(|(_, replicas)| !replicas.is_empty())
            .map(|(revision, replicas)| {
                let count = |is: fn(&Replica) -> bool| {
                    u32::try_from(replicas.iter().filter(|replica| is(replica)).count())
                        .expect("few")
                };
                let replicas = Replicas {
                    starting: count(|r| matches!(r, Replica::Starting(_))),
                    ready: count(|r| matches!(r, Replica::Ready(_))),
                    draining: count(|r| matches!(r, Replica::Draining(_))),
                    failed: count(|r| matches!(r, Replica::Failed(_))),
                };
                let crash_looping = self.crashes.get(revision).is_some_and(|n| *n >= 5);
                let evidence = self.evidence.get(revision).copied().unwrap_or_default();
                (revision.clone(), Revision { replicas, crash_looping, evidence })
            })
            .collect()
    }

    fn carry_out(&mut self, decision: &Decision) {
        let (now, drain) = (self.now, self.drain);
        for (revision, allotment) in &decision.revisions {
            let stays = self.stable_stays && self.state.stable() == Some(revision);
            let wanted = match allotment.replicas {
                0 => 0,
                few if stays => few.max(self.wanted),
                count => count,
            };
            let replicas = self.replicas.entry(revision.clone()).or_default();
            let live = |replicas: &Vec<Replica>| {
                replicas.iter().filter(|r| !matches!(r, Replica::Draining(_))).count()
            };
            while live(replicas) < wanted as usize {
                replicas.push(Replica::Starting(now));
            }
            while live(replicas) > wanted as usize {
                let worst = |r: &&mut Replica| match r {
                    Replica::Failed(_) => 0,
                    Replica::Starting(_) => 1,
                    Replica::Ready(_) => 2,
                    Replica::Draining(_) => 3,
                };
                if let Some(replica) = replicas.iter_mut().min_by_key(worst) {
                    *replica = Replica::Draining(now + drain);
                }
            }
        }
    }

    /// `(revision, ready, weight)` of those that have either, after the last tick.
    #[track_caller]
    fn check(&self, expected: &[(&str, u32, u32)]) {
        let decision = self.last.as_ref().expect("ran");
        let seen = self.observe();
        let got: Vec<(&str, u32, u32)> = decision
            .revisions
            .iter()
            .map(|(name, allotment)| {
                (name.as_str(), seen.get(name).map_or(0, |r| r.replicas.ready), allotment.weight)
            })
            .filter(|(_, ready, weight)| *ready > 0 || *weight > 0)
            .collect();
        assert_eq!(got, expected, "{decision:?}");
    }

    #[track_caller]
    fn check_told(&self, expected: &[Reason]) {
        assert_eq!(self.told, expected);
    }

    fn phase(&self) -> Phase {
        self.last.as_ref().expect("ran").phase
    }
}

/// What holds for every decision, whatever was observed.
#[track_caller]
fn check_laws(before: &State, after: &State, observed: &Observed<'_>, decision: &Decision) {
    let slack = super::room::Slack::of(&observed.rollout.strategy);
    let given_up = |name: &RevisionName| after.given_up(name).is_some();
    let ready = |name: &RevisionName| observed.revisions.get(name).map_or(0, |r| r.replicas.ready);
    let allotted = |name: &RevisionName| decision.revisions.get(name).copied().unwrap_or_default();

    // Weights.
    let sum: u32 = decision.revisions.values().map(|allotment| allotment.weight).sum();
    let kept: u32 = decision
        .revisions
        .iter()
        .filter(|(name, _)| !given_up(name))
        .map(|(name, allotment)| ready(name).min(allotment.replicas))
        .sum();
    assert_eq!(sum, if kept > 0 { 100 } else { 0 }, "{decision:?}");
    for (name, allotment) in &decision.revisions {
        let may_carry = ready(name) > 0 && allotment.replicas > 0 && !given_up(name);
        assert!(allotment.weight == 0 || may_carry, "{name} gets requests: {decision:?}");
        assert!(!given_up(name) || allotment.replicas == 0, "{decision:?}");
    }
    assert!(observed.revisions.keys().all(|name| decision.revisions.contains_key(name)));
    if let Some(mirror) = &decision.mirror {
        assert!(ready(&mirror.to) > 0, "copies for nobody: {decision:?}");
    }

    // Capacity: what is ready stays ready, up to the number that has to be there.
    let there: u32 = observed.revisions.keys().filter(|name| !given_up(name)).map(ready).sum();
    let least = observed.wanted.saturating_sub(slack.unavailable).min(there);
    assert!(kept >= least, "{kept} kept, {least} needed: {observed:?} {decision:?}");

    // Room.
    let total: u32 = decision.revisions.values().map(|allotment| allotment.replicas).sum();
    let most = match observed.rollout.strategy {
        Plan::Rolling { .. } if !observed.stable_stays => observed.wanted + slack.surge,
        Plan::Rolling { .. } | Plan::Canary { .. } | Plan::BlueGreen { .. } => 2 * observed.wanted,
    };
    assert!(total <= most, "{total} replicas, {most} allowed: {observed:?} {decision:?}");
    if let Some(stable) = after.stable().filter(|stable| *stable != observed.target) {
        let whole = match (&observed.rollout.strategy, after.given_up(observed.target)) {
            (_, Some(_)) => true,
            (Plan::Rolling { .. }, None) => false,
            (Plan::Canary { .. } | Plan::BlueGreen { .. }, None) => {
                matches!(decision.reason, Reason::NewRevision | Reason::Switched)
            }
        };
        let others: u32 = decision
            .revisions
            .iter()
            .filter(|(name, _)| *name != observed.target && *name != stable)
            .map(|(_, allotment)| allotment.replicas)
            .sum();
        assert!(!whole || allotted(stable).replicas + others >= observed.wanted, "{decision:?}");
    }
    assert!(decision.look_again_at.is_none_or(|at| at > observed.now), "{decision:?}");

    // Deciding again at once changes nothing that is not due.
    let mut again = after.clone();
    let once_more = again.decide(observed);
    if before.stable() == after.stable() {
        assert_eq!(once_more.revisions, decision.revisions, "not settled: {decision:?}");
    }
}

#[test]
fn a_canary_takes_over_beside_replicas_that_stay() {
    // As those of an autoscaler of Kubernetes do, which alone says how many there are.
    for (wanted, rollout) in [(2, canary(&[25, 50])), (3, canary(&[100])), (4, blue_green())] {
        let mut world = World::new(rollout, wanted);
        world.stable_stays = true;
        world.roll_out("b", GOOD).run(70 * 4).check(&[("b", wanted, 100)]);
    }
}

#[test]
fn the_first_revision_just_starts() {
    let mut world = World::empty(canary(&[10, 50]), 3);
    world.run(1).check(&[]);
    assert_eq!(world.phase(), Phase::Progressing);
    world.run(3).check(&[("a", 3, 100)]);
    world.check_told(&[Reason::FirstRevision, Reason::RolloutComplete]);
    world.run(1);
    assert_eq!(
        (world.phase(), world.last.as_ref().map(|d| d.reason)),
        (Phase::Stable, Some(Reason::Steady))
    );
}

#[test]
fn a_first_revision_that_crashes_is_tried_again_and_again() {
    let mut world = World::empty(rolling(), 2);
    world.roll_out("a", Behaviour { crash_after: Some(1), ..GOOD }).run(30).check(&[]);
    assert_eq!(world.phase(), Phase::Stalled);
    world.check_told(&[Reason::FirstRevision, Reason::CrashLoop]);
    // The next one replaces it at once.
    world.roll_out("b", GOOD).run(10).check(&[("b", 2, 100)]);
}

#[test]
fn rolling_replaces_one_by_one() {
    let mut world = World::new(rolling(), 2);
    world.roll_out("b", GOOD).run(3).check(&[("a", 2, 100)]);
    world.run(1).check(&[("a", 1, 50), ("b", 1, 50)]);
    world.run(8).check(&[("b", 2, 100)]);
    world.check_told(&[
        Reason::NewRevision,
        Reason::Replacing,
        Reason::RolloutComplete,
        Reason::Steady,
    ]);
}

#[test]
fn a_revision_that_is_never_ready_is_given_up_at_the_deadline() {
    let mut world = World::new(rolling(), 2);
    world.roll_out("b", Behaviour { start: None, ..GOOD }).run(600).check(&[("a", 2, 100)]);
    assert_eq!(world.phase(), Phase::Progressing);
    world.run(2).check(&[("a", 2, 100)]);
    assert_eq!(world.phase(), Phase::Aborted);
    world.check_told(&[Reason::NewRevision, Reason::ProgressDeadlineExceeded]);
    assert_eq!(world.state.given_up(&name("b")), Some(Reason::ProgressDeadlineExceeded));
    // It stays given up until the plan changes or a person asks again.
    world.run(1000).check(&[("a", 2, 100)]);
    world.behaviour.insert(name("b"), GOOD);
    world.state.retry();
    world.run(20).check(&[("b", 2, 100)]);
}

#[test]
fn a_crash_loop_gives_up_at_once() {
    let mut world = World::new(rolling(), 3);
    world.roll_out("b", Behaviour { crash_after: Some(2), ..GOOD }).run(30);
    world.check(&[("a", 3, 100)]);
    world.check_told(&[Reason::NewRevision, Reason::CrashLoop]);
}

#[test]
fn a_rolling_revision_that_fails_requests_is_taken_back() {
    let mut world = World::new(with_error_rate(rolling(), 5), 4);
    world.roll_out("b", Behaviour { failures: 50, ..GOOD }).run(20).check(&[("a", 4, 100)]);
    world.check_told(&[Reason::NewRevision, Reason::Replacing, Reason::ErrorRateTooHigh]);
}

#[test]
fn a_canary_goes_step_by_step() {
    let mut world = World::new(canary(&[10, 50]), 4);
    world.roll_out("b", GOOD).run(3).check(&[("a", 4, 100)]);
    world.run(1).check(&[("a", 4, 90), ("b", 1, 10)]);
    assert_eq!(world.phase(), Phase::Paused);
    world.run(60).check(&[("a", 4, 90), ("b", 1, 10)]);
    world.run(3).check(&[("a", 4, 50), ("b", 2, 50)]);
    world.run(60).check(&[("a", 2, 50), ("b", 2, 50)]);
    world.run(20).check(&[("b", 4, 100)]);
    world.check_told(&[
        Reason::NewRevision,
        Reason::CanaryStep,
        Reason::Replacing,
        Reason::RolloutComplete,
        Reason::Steady,
    ]);
}

#[test]
fn a_canary_keeps_its_share_while_more_replicas_start() {
    let mut world = World::new(canary(&[25, 50]), 2);
    world.roll_out("b", GOOD).run(70).check(&[("a", 2, 50), ("b", 1, 50)]);
    world.wanted = 3;
    for _ in 0..10 {
        world.run(1);
        let decision = world.last.as_ref().expect("ran");
        assert_eq!(decision.revisions[&name("b")].weight, 50, "{decision:?}");
    }
    world.check(&[("a", 3, 50), ("b", 2, 50)]);
}

#[test]
fn a_canary_waits_for_evidence_when_it_has_a_limit() {
    let mut world = World::new(with_error_rate(canary(&[10]), 5), 2);
    world.rps = 0;
    world.roll_out("b", GOOD).run(1000).check(&[("a", 2, 90), ("b", 1, 10)]);
    assert_eq!(world.last.as_ref().map(|d| d.reason), Some(Reason::WaitingForEvidence));
    world.rps = 100;
    // A hundred requests at a tenth of a hundred a second.
    world.run(11);
    assert_eq!(world.last.as_ref().map(|d| d.reason), Some(Reason::Replacing));
}

#[test]
fn a_canary_that_fails_loses_its_requests_at_once() {
    let mut world = World::new(with_error_rate(canary(&[10, 50]), 5), 4);
    world.roll_out("b", Behaviour { failures: 30, ..GOOD }).run(10).check(&[("a", 4, 100)]);
    assert_eq!(world.phase(), Phase::Aborted);
    world.check_told(&[Reason::NewRevision, Reason::CanaryStep, Reason::ErrorRateTooHigh]);
}

#[test]
fn a_slow_canary_is_given_up() {
    let limit = Abort { error_rate: None, p99: Some(Duration::from_millis(50)) };
    let mut world = World::new(Rollout { abort: limit, ..canary(&[20]) }, 2);
    world.roll_out("b", Behaviour { p99_ms: 80, ..GOOD }).run(20).check(&[("a", 2, 100)]);
    assert_eq!(world.last.as_ref().map(|d| d.reason), Some(Reason::LatencyTooHigh));
}

#[test]
fn what_fails_in_both_revisions_is_not_the_new_ones_fault() {
    let mut world = World::new(with_error_rate(canary(&[50]), 5), 2);
    let failing = Behaviour { failures: 20, ..GOOD };
    world.behaviour.insert(name("a"), failing);
    world.roll_out("b", failing).run(100).check(&[("b", 2, 100)]);
}

#[test]
fn mirrored_requests_come_before_real_ones() {
    let mut world = World::new(Rollout { mirror: Some(Percent::whole(20)), ..canary(&[10]) }, 4);
    world.roll_out("b", GOOD).run(4).check(&[("a", 4, 100), ("b", 1, 0)]);
    let mirror = world.last.as_ref().and_then(|d| d.mirror.clone());
    assert_eq!(mirror, Some(Mirror { to: name("b"), share: Percent::whole(20) }));
    world.run(60).check(&[("a", 4, 90), ("b", 1, 10)]);
    assert_eq!(world.last.as_ref().and_then(|d| d.mirror.clone()), None);
}

#[test]
fn a_mirror_shows_errors_to_nobody() {
    let limited = with_error_rate(blue_green(), 1);
    let mut world = World::new(Rollout { mirror: Some(Percent::whole(50)), ..limited }, 2);
    world.roll_out("b", Behaviour { failures: 10, ..GOOD }).run(30).check(&[("a", 2, 100)]);
    world.check_told(&[Reason::NewRevision, Reason::Mirroring, Reason::ErrorRateTooHigh]);
}

#[test]
fn blue_green_switches_when_all_are_ready() {
    let mut world = World::new(blue_green(), 3);
    world.roll_out("b", GOOD).run(3).check(&[("a", 3, 100)]);
    world.run(1).check(&[("a", 3, 0), ("b", 3, 100)]);
    world.run(59).check(&[("a", 3, 0), ("b", 3, 100)]);
    world.run(3).check(&[("b", 3, 100)]);
    world.check_told(&[
        Reason::NewRevision,
        Reason::Switched,
        Reason::RolloutComplete,
        Reason::Steady,
    ]);
}

#[test]
fn blue_green_switches_back_when_the_new_one_fails() {
    let mut world = World::new(with_error_rate(blue_green(), 5), 3);
    world.roll_out("b", Behaviour { failures: 40, ..GOOD }).run(10).check(&[("a", 3, 100)]);
    assert_eq!(world.last.as_ref().map(|d| d.reason), Some(Reason::ErrorRateTooHigh));
}

#[test]
fn at_zero_a_new_revision_just_replaces() {
    let mut world = World::new(canary(&[10, 50]), 2);
    world.wanted = 0;
    world.run(5).check(&[]);
    world.roll_out("b", GOOD).run(1);
    assert_eq!(world.last.as_ref().map(|d| d.reason), Some(Reason::ReplacedAtZero));
    world.wanted = 1;
    world.run(5).check(&[("b", 1, 100)]);
}

#[test]
fn demand_that_grows_in_the_middle_is_met_by_what_works() {
    let mut world = World::new(rolling(), 2);
    world.roll_out("b", Behaviour { start: None, ..GOOD }).run(10);
    world.wanted = 6;
    world.run(10).check(&[("a", 6, 100)]);
}

#[test]
fn demand_that_falls_in_the_middle_ends_the_old_ones_first() {
    let mut world = World::new(rolling(), 6);
    world.roll_out("b", GOOD).run(16);
    world.wanted = 3;
    world.run(20).check(&[("b", 3, 100)]);
}

#[test]
fn a_newer_revision_supersedes_the_one_on_its_way() {
    let mut world = World::new(rolling(), 4);
    world.roll_out("b", GOOD).run(8);
    world.roll_out("c", GOOD).run(40).check(&[("c", 4, 100)]);
    assert!(world.told.contains(&Reason::Superseded), "{:?}", world.told);
    assert_eq!(world.state.stable(), Some(&name("c")));
}

#[test]
fn a_canary_that_is_superseded_leaves_its_requests_to_the_old_one() {
    let mut world = World::new(canary(&[20, 50]), 4);
    world.roll_out("b", GOOD).run(10).check(&[("a", 4, 80), ("b", 1, 20)]);
    world.roll_out("c", GOOD).run(1).check(&[("a", 4, 100)]);
    world.run(3).check(&[("a", 4, 80), ("c", 1, 20)]);
}

#[test]
fn going_back_in_the_middle_is_replica_by_replica() {
    let mut world = World::new(rolling(), 4);
    world.roll_out("b", GOOD).run(12);
    world.target = name("a");
    world.run(30).check(&[("a", 4, 100)]);
    assert!(world.told.contains(&Reason::RolledBack), "{:?}", world.told);
    assert_eq!(world.phase(), Phase::Stable);
}

#[test]
fn a_rollback_after_the_end_is_a_rollout_without_looks() {
    let mut world = World::new(canary(&[10]), 2);
    world.roll_out("b", GOOD).run(120).check(&[("b", 2, 100)]);
    world.rollout = Rollout::straight();
    world.roll_out("a", GOOD).run(15).check(&[("a", 2, 100)]);
}

#[test]
fn a_person_in_a_hurry_ends_the_steps() {
    let mut world = World::new(canary(&[10, 50]), 3);
    world.roll_out("b", GOOD).run(10).check(&[("a", 3, 90), ("b", 1, 10)]);
    world.rollout = Rollout::straight();
    world.run(20).check(&[("b", 3, 100)]);
}

#[test]
fn a_stored_state_goes_on_where_it_was() {
    let mut world = World::new(canary(&[10, 50]), 4);
    world.roll_out("b", GOOD).run(30);
    let stored = serde_json::to_string(&world.state).expect("plain data");
    world.state = serde_json::from_str(&stored).expect("what was written");
    // An hour nobody looked; its pause starts anew.
    world.now += 3600;
    world.state.resume(Duration::from_secs(world.now));
    world.evidence.clear();
    world.run(59).check(&[("a", 4, 90), ("b", 1, 10)]);
    world.run(90).check(&[("b", 4, 100)]);
}

#[test]
fn after_a_power_cut_the_proven_revision_comes_back_first() {
    let mut world = World::new(rolling(), 4);
    world.roll_out("b", Behaviour { start: None, ..GOOD }).run(10);
    world.replicas.clear();
    world.run(5).check(&[("a", 4, 100)]);
}

#[test]
fn the_autoscaler_does_not_see_the_surplus() {
    let mut world = World::new(blue_green(), 3);
    world.roll_out("b", GOOD).run(10).check(&[("a", 3, 0), ("b", 3, 100)]);
    let revisions = world.observe();
    let observed = Observed {
        rollout: &world.rollout,
        target: &world.target,
        wanted: world.wanted,
        stable_stays: false,
        revisions: &revisions,
        now: Duration::from_secs(world.now),
    };
    let replicas = world.state.replicas(&observed);
    assert_eq!((replicas.ready, replicas.starting), (3, 0));
}

fn any_strategy() -> impl Strategy<Value = Plan> {
    let pause = (0u64..90).prop_map(Duration::from_secs);
    prop_oneof![
        (0u32..4, 0u32..3)
            .prop_map(|(max_surge, max_unavailable)| Plan::Rolling { max_surge, max_unavailable }),
        (prop::collection::btree_set(1u8..100, 1..5), pause.clone())
            .prop_map(|(steps, pause)| Plan::Canary { steps: steps.into_iter().collect(), pause }),
        pause.prop_map(|pause| Plan::BlueGreen { pause }),
    ]
}

fn any_rollout() -> impl Strategy<Value = Rollout> {
    (any_strategy(), prop::option::of(0u16..20), prop::option::of(1u16..=100)).prop_map(
        |(strategy, error_rate, mirror)| Rollout {
            strategy,
            abort: Abort { error_rate: error_rate.map(Percent::whole), p99: None },
            mirror: mirror.map(Percent::whole),
            sticky_header: None,
            progress_deadline: Duration::from_secs(120),
        },
    )
}

fn any_behaviour() -> impl Strategy<Value = Behaviour> {
    (prop::option::weighted(0.8, 0u64..20), prop::option::weighted(0.2, 0u64..10), 0u64..40)
        .prop_map(|(start, crash_after, failures)| Behaviour {
            start,
            crash_after,
            failures,
            p99_ms: 10,
        })
}

/// Something that happens, and the seconds after it.
#[derive(Debug, Clone)]
enum Happening {
    RollOut(char, Behaviour),
    Wanted(u32),
    Strategy(Rollout),
    /// All replicas of a revision end.
    Kill(char),
    Resume,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (prop::char::range('a', 'd'), any_behaviour())
            .prop_map(|(revision, behaviour)| Happening::RollOut(revision, behaviour)),
        2 => (0u32..9).prop_map(Happening::Wanted),
        1 => any_rollout().prop_map(Happening::Strategy),
        1 => prop::char::range('a', 'd').prop_map(Happening::Kill),
        1 => Just(Happening::Resume),
    ]
}

proptest! {
    /// The laws hold whatever happens, and in the end a revision that works serves alone.
    #[test]
    fn the_laws_hold_and_the_last_good_revision_wins(
        rollout in any_rollout(),
        wanted in 0u32..9,
        happenings in prop::collection::vec((any_happening(), 0u64..60), 0..12),
    ) {
        let mut world = World::empty(rollout, wanted);
        for (happening, seconds) in happenings {
            match happening {
                Happening::RollOut(revision, behaviour) => {
                    world.crashes.clear();
                    world.roll_out(&revision.to_string(), behaviour);
                }
                Happening::Wanted(wanted) => world.wanted = wanted,
                Happening::Strategy(rollout) => world.rollout = rollout,
                Happening::Kill(revision) => {
                    world.replicas.remove(&name(&revision.to_string()));
                }
                Happening::Resume => {
                    let stored = serde_json::to_string(&world.state).expect("plain data");
                    world.state = serde_json::from_str(&stored).expect("what was written");
                    world.state.resume(Duration::from_secs(world.now));
                }
            }
            world.run(seconds);
        }
        world.crashes.clear();
        world.wanted = world.wanted.max(1);
        world.roll_out("z", GOOD).run(2000);
        let wanted = world.wanted;
        world.check(&[("z", wanted, 100)]);
        prop_assert_eq!(world.phase(), Phase::Stable);
        prop_assert_eq!(world.last.as_ref().map(|d| d.reason), Some(Reason::Steady));
    }

    /// A revision that never becomes ready never gets a request and takes none from the others.
    #[test]
    fn a_broken_revision_harms_nobody(rollout in any_rollout(), wanted in 1u32..9) {
        let slack = super::room::Slack::of(&rollout.strategy);
        let mut world = World::new(rollout, wanted);
        world.roll_out("b", Behaviour { start: None, ..GOOD });
        for _ in 0..300 {
            world.run(1);
            let seen = world.observe();
            let ready = seen.get(&name("a")).map_or(0, |r| r.replicas.ready);
            prop_assert!(ready >= wanted.saturating_sub(slack.unavailable));
            let weight = world.last.as_ref().expect("ran").revisions.get(&name("a"));
            prop_assert!(ready == 0 || weight.is_some_and(|a| a.weight == 100));
        }
        world.check(&[("a", wanted, 100)]);
    }

    /// Any counts, even such as no back end has, break no law.
    #[test]
    fn the_laws_hold_for_any_observation(
        rollout in any_rollout(),
        wanted in 0u32..20,
        counts in prop::collection::btree_map(
            "[a-d]",
            (0u32..12, 0u32..12, 0u32..12, 0u32..12, any::<bool>(), 0u64..1000, 0u64..1000),
            0..5,
        ),
        stable in prop::option::of("[a-d]"),
        target in "[a-d]",
        times in prop::collection::vec(0u64..500, 1..6),
    ) {
        let mut state = stable.map_or_else(State::default, |stable| State::serving(name(&stable)));
        let revisions: BTreeMap<_, _> = counts
            .into_iter()
            .map(|(key, (starting, ready, draining, failed, crash_looping, requests, failures))| {
                let replicas = Replicas { starting, ready, draining, failed };
                let evidence = Evidence { requests, failures, p99: None };
                (name(&key), Revision { replicas, crash_looping, evidence })
            })
            .collect();
        let target = name(&target);
        for at in times {
            let now = Duration::from_secs(at);
            let observed =
                Observed { rollout: &rollout, target: &target, wanted, stable_stays: false, revisions: &revisions, now };
            let before = state.clone();
            let decision = state.decide(&observed);
            check_laws(&before, &state, &observed, &decision);
        }
    }
}

#[test]
fn a_renamed_revision_goes_on_where_it_was() {
    let mut world = World::new(canary(&[50]), 2);
    world.roll_out("b", GOOD).run(10);
    let before = world.state.clone();
    world.state.rename(&name("a"), &name("a2"));
    world.state.rename(&name("b"), &name("b2"));
    assert_eq!(world.state.stable(), Some(&name("a2")));
    assert_eq!(world.state.candidate(), Some(&name("b2")));
    world.state.rename(&name("a2"), &name("a"));
    world.state.rename(&name("b2"), &name("b"));
    assert_eq!(world.state, before);
}

#[test]
fn only_time_without_progress_may_wait_to_be_stored() {
    let mut world = World::new(canary(&[50]), 2);
    world.roll_out("b", GOOD).run(10);
    let stored = world.state.clone();
    let slack = Duration::from_secs(30);
    world.run(20);
    assert_ne!(world.state, stored);
    assert!(world.state.is_as_good_as(&stored, slack));
    world.run(20);
    assert!(!world.state.is_as_good_as(&stored, slack));
    // The next stage is no matter of time.
    let stored = world.state.clone();
    world.run(40);
    assert!(!world.state.is_as_good_as(&stored, Duration::from_secs(3600)));
}
