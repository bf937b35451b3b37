//! What a service with steps should have now: a pure function.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_api::model_service::{MirrorStatus, RolloutStatus, TrackStatus};
use trainyard_control::rollout::{Decision, Evidence, Observed, Phase, Reason, Revision, State};
use trainyard_plan::kubernetes::Track;
use trainyard_plan::{Plan, RevisionName};

use super::tracks::{Assigned, Rules, Seen, Tracks, assign};
use crate::status::News;

/// The time without progress that may be counted twice after a restart, so that not each second of
/// it is written down.
const SLACK: Duration = Duration::from_secs(30);
/// Evidence and pauses are looked at again within this.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(200);

/// What is to be done for a service.
#[derive(Debug)]
pub(crate) struct Course {
    /// What is rendered, the stable track first.
    pub(crate) sides: Vec<Side>,
    /// What gateways and later operators go by; none where Kubernetes rolls out alone.
    pub(crate) rollout: Option<RolloutStatus>,
    pub(crate) again_in: Option<Duration>,
    /// Revisions whose content is needed.
    pub(crate) in_use: Vec<String>,
    /// That the autoscaler changed the count.
    pub(crate) scaled: Option<News>,
    /// What does not work that should.
    pub(crate) impaired: Option<String>,
}

/// One track's revision.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) plan: Plan,
    pub(crate) track: Track,
}

/// What is remembered between decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) state: State,
    pub(super) tracks: Tracks,
}

impl Memory {
    /// Of a service whose replicas run this revision, or that has none.
    pub(super) fn starting(revision: Option<RevisionName>) -> Self {
        let state = revision.clone().map(State::serving).unwrap_or_default();
        Self { state, tracks: Tracks { stable: revision, ..Tracks::default() } }
    }

    /// What an operator wrote down; none if it cannot be read, as after an edit by hand.
    pub(super) fn read(status: &RolloutStatus) -> Option<Self> {
        serde_json::from_str(&status.memory).ok()
    }

    /// Whether a rollout, or what comes after it, is under way.
    pub(super) fn is_under_way(&self) -> bool {
        let Tracks { changing_over, candidate, .. } = &self.tracks;
        self.state.candidate().is_some() || candidate.is_some() || *changing_over
    }

    /// Every revision on a track, or that requests may go back to.
    pub(super) fn names(&self) -> Vec<RevisionName> {
        let Tracks { stable, candidate, .. } = &self.tracks;
        let known = [stable.as_ref(), candidate.as_ref(), self.state.stable()];
        let mut names: Vec<RevisionName> = known.into_iter().flatten().cloned().collect();
        names.extend(self.state.candidate().cloned());
        names.sort();
        names.dedup();
        names
    }

    pub(super) fn rename(&mut self, from: &RevisionName, to: &RevisionName) {
        self.state.rename(from, to);
        let Tracks { stable, candidate, .. } = &mut self.tracks;
        for name in [stable, candidate].into_iter().flatten() {
            if name == from {
                name.clone_from(to);
            }
        }
    }

    /// The revisions with what they have.
    pub(super) fn revisions(
        &self,
        stable: &Seen,
        candidate: &Seen,
        evidence: impl Fn(&RevisionName) -> Evidence,
    ) -> BTreeMap<RevisionName, Revision> {
        let mut revisions: BTreeMap<RevisionName, Revision> = BTreeMap::new();
        // Of replicas that change over nobody can say what they run.
        let on_stable = self.tracks.stable.as_ref().filter(|_| !self.tracks.changing_over);
        for (name, seen) in [(on_stable, stable), (self.tracks.candidate.as_ref(), candidate)] {
            let Some(name) = name.filter(|_| seen.exists || seen.live > 0) else { continue };
            let revision = revisions.entry(name.clone()).or_insert_with_key(|name| Revision {
                evidence: evidence(name),
                ..Revision::default()
            });
            let (sum, more) = (&mut revision.replicas, seen.replicas());
            sum.starting = sum.starting.saturating_add(more.starting);
            sum.ready = sum.ready.saturating_add(more.ready);
            sum.draining = sum.draining.saturating_add(more.draining);
            revision.crash_looping |= seen.crash_looping;
        }
        revisions
    }
}

/// One service at one moment.
pub(super) struct Asked<'a> {
    /// What the spec asks for.
    pub(super) plan: &'a Plan,
    pub(super) stable: &'a Seen,
    pub(super) candidate: &'a Seen,
    pub(super) revisions: &'a BTreeMap<RevisionName, Revision>,
    pub(super) wanted: u32,
    pub(super) keeps_stable: bool,
    /// What is wrong with the candidate's replicas.
    pub(super) trouble: Option<&'a str>,
    pub(super) before: Option<&'a RolloutStatus>,
    /// Since the Unix epoch.
    pub(super) now: Duration,
}

/// What should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Charted {
    pub(super) memory: Memory,
    pub(super) stable: u32,
    pub(super) candidate: u32,
    pub(super) status: RolloutStatus,
    pub(super) again_in: Option<Duration>,
}

/// Decides what each track should have, and what to write down of it.
pub(super) fn chart(mut memory: Memory, asked: &Asked<'_>) -> Charted {
    let target = &asked.plan.revision;
    let decision = memory.state.decide(&Observed {
        rollout: &asked.plan.rollout,
        target,
        wanted: asked.wanted,
        stable_stays: asked.keeps_stable,
        revisions: asked.revisions,
        now: asked.now,
    });
    let lead = memory.state.stable().unwrap_or(target).clone();
    let surge = match asked.plan.workload.resources.gpu {
        // There may be one to spare, and hardly more.
        Some(_) => 1,
        None => (asked.wanted / 4).max(1),
    };
    let rules = Rules { wanted: asked.wanted, keeps_stable: asked.keeps_stable, surge };
    let Assigned { tracks, stable, candidate } = assign(
        &memory.tracks,
        (asked.stable, asked.candidate),
        &decision,
        (&lead, target),
        memory.state.stable().is_some(),
        rules,
    );
    memory.tracks = tracks;
    let status = status(&memory, asked, &decision, &lead);
    let now = asked.now;
    let again_in = decision.look_again_at.map(|at| at.saturating_sub(now).clamp(SHORTEST, LONGEST));
    Charted { memory, stable, candidate, status, again_in }
}

fn status(
    memory: &Memory,
    asked: &Asked<'_>,
    decision: &Decision,
    lead: &RevisionName,
) -> RolloutStatus {
    let weights = &decision.revisions;
    let no_weight = weights.values().all(|allotment| allotment.weight == 0);
    let weight = |revision: &RevisionName| match no_weight {
        // Whoever comes up first may answer, but for one that was given up.
        true => u32::from(revision == lead) * 100,
        false => weights.get(revision).map_or(0, |allotment| allotment.weight),
    };
    let Tracks { stable, changing_over, candidate } = &memory.tracks;
    let track = |name: &str, revision: &Option<RevisionName>, serves: bool| {
        revision.as_ref().map(|revision| TrackStatus {
            track: name.to_owned(),
            revision: revision.to_string(),
            weight: weight(revision),
            serves,
        })
    };
    let tracks = [track("stable", stable, !changing_over), track("candidate", candidate, true)];
    let moves = candidate.is_some() && candidate == stable;
    let (phase, reason) = match decision.phase {
        Phase::Stable if moves || *changing_over => (Phase::Progressing.as_str(), PROMOTING),
        phase => (phase.as_str(), decision.reason.as_str()),
    };
    let before = asked.before.filter(|before| before.phase == phase && before.reason == reason);
    let message = match decision.phase {
        // The figures and the replicas that it was told by are gone soon.
        Phase::Aborted => before
            .and_then(|before| before.message.clone())
            .or_else(|| Some(given_up(asked, decision.reason))),
        _ => None,
    };
    // What is as good stays, letter by letter: a status that is the same is not written.
    let stored = asked.before.and_then(|before| {
        let stored = Memory::read(before)?;
        let is_as_good =
            stored.tracks == memory.tracks && memory.state.is_as_good_as(&stored.state, SLACK);
        is_as_good.then(|| before.memory.clone())
    });
    RolloutStatus {
        phase: phase.to_owned(),
        reason: reason.to_owned(),
        message,
        tracks: tracks.into_iter().flatten().collect(),
        mirror: decision
            .mirror
            .as_ref()
            .map(|mirror| MirrorStatus { revision: mirror.to.to_string(), share: mirror.share }),
        // Names and numbers are always written.
        memory: stored.unwrap_or_else(|| serde_json::to_string(memory).unwrap_or_default()),
    }
}

/// The revision has taken over, and moves to the stable track.
pub(crate) const PROMOTING: &str = "Promoting";

fn given_up(asked: &Asked<'_>, reason: Reason) -> String {
    let (target, abort) = (&asked.plan.revision, &asked.plan.rollout.abort);
    let evidence = asked.revisions.get(target).map(|seen| seen.evidence).unwrap_or_default();
    let why = match reason {
        Reason::ErrorRateTooHigh => {
            let allowed = abort.error_rate.map(|rate| rate.to_string()).unwrap_or_default();
            format!(
                "{} of its {} requests failed, more than the {allowed} of `spec.rollout.abort.errorRate`",
                evidence.failures, evidence.requests
            )
        }
        Reason::LatencyTooHigh => {
            let allowed = abort.p99.unwrap_or_default().as_millis();
            let seen = evidence.p99.unwrap_or_default().as_millis();
            format!(
                "one in a hundred of its requests takes {seen} ms and longer, more than the {allowed} ms of `spec.rollout.abort.p99`"
            )
        }
        Reason::CrashLoop => "its replicas end again and again".to_owned(),
        _ => "no replica of it became ready in the time allowed".to_owned(),
    };
    let trouble = asked.trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
    format!("revision `{target}` was given up: {why}{trouble}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainyard_plan::{Facts, Target, compile};

    use super::*;

    fn plan(uri: &str, rollout: &serde_json::Value) -> Plan {
        let service = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelService",
            "metadata": {"name": "iris", "namespace": "default"},
            "spec": {"model": {"uri": uri}, "replicas": 2, "rollout": rollout},
        }))
        .expect("a service");
        let target = Target::Kubernetes { image: "i".to_owned(), gpu_pools: Default::default() };
        compile(&service, &Facts { target, model: None }).expect("a plan")
    }

    /// A cluster that does at each second what it was told the second before.
    struct World {
        plan: Plan,
        status: Option<RolloutStatus>,
        tracks: [Seen; 2],
        now: u64,
        /// Failed requests of the candidate, of 50 each second.
        failing: u64,
        evidence: Evidence,
        told: Vec<String>,
        writes: u32,
    }

    impl World {
        fn new(rollout: serde_json::Value) -> Self {
            let plan = plan("s3://m/a", &rollout);
            let ready = Seen {
                exists: true,
                wanted: 2,
                live: 2,
                ready: 2,
                is_whole: true,
                ..Seen::default()
            };
            let mut world = Self {
                plan,
                status: None,
                tracks: [ready, Seen::default()],
                now: 1_000_000,
                failing: 0,
                evidence: Evidence::default(),
                told: Vec::new(),
                writes: 0,
            };
            world.run(3);
            world.told.clear();
            world.writes = 0;
            world
        }

        fn run(&mut self, seconds: u32) -> &mut Self {
            for _ in 0..seconds {
                self.now += 1;
                let memory = self.status.as_ref().and_then(Memory::read);
                let memory =
                    memory.unwrap_or_else(|| Memory::starting(Some(self.plan.revision.clone())));
                let [stable, candidate] = self.tracks;
                let target = self.plan.revision.clone();
                let evidence = self.evidence;
                let revisions =
                    memory.revisions(&stable, &candidate, |name| match *name == target {
                        true => evidence,
                        false => Evidence::default(),
                    });
                let charted = chart(
                    memory,
                    &Asked {
                        plan: &self.plan,
                        stable: &stable,
                        candidate: &candidate,
                        revisions: &revisions,
                        wanted: 2,
                        keeps_stable: false,
                        trouble: None,
                        before: self.status.as_ref(),
                        now: Duration::from_secs(self.now),
                    },
                );
                let weights: Vec<String> = charted
                    .status
                    .tracks
                    .iter()
                    .map(|track| format!("{} {}", track.track, track.weight))
                    .collect();
                let told = format!("{}: {}", charted.status.reason, weights.join(", "));
                if self.told.last() != Some(&told) {
                    self.told.push(told);
                }
                if self.status.as_ref() != Some(&charted.status) {
                    self.writes += 1;
                }
                let has_requests = charted
                    .status
                    .tracks
                    .iter()
                    .any(|track| track.revision == target.as_str() && track.weight > 0);
                if has_requests {
                    self.evidence.requests += 50;
                    self.evidence.failures += self.failing;
                }
                let track = |count: u32| Seen {
                    exists: count > 0,
                    wanted: count,
                    live: count,
                    ready: count,
                    is_whole: true,
                    ..Seen::default()
                };
                self.tracks = [track(charted.stable), track(charted.candidate)];
                self.tracks[0].exists = true;
                self.status = Some(charted.status);
            }
            self
        }

        fn roll_out(&mut self, uri: &str) -> &mut Self {
            let rollout = self.plan.rollout.clone();
            self.plan = Plan { rollout, ..plan(uri, &json!({})) };
            self
        }
    }

    fn canary() -> serde_json::Value {
        json!({"strategy": "canary", "steps": [20, 50], "pause": "10s", "abort": {"errorRate": "5%"}})
    }

    #[test]
    fn a_canary_takes_its_steps_and_ends_on_the_stable_track() {
        let mut world = World::new(canary());
        world.roll_out("s3://m/b").run(60);
        assert_eq!(
            world.told,
            [
                "NewRevision: stable 100, candidate 0",
                "CanaryStep: stable 80, candidate 20",
                "CanaryStep: stable 50, candidate 50",
                "Replacing: stable 50, candidate 50",
                "RolloutComplete: stable 0, candidate 100",
                "Promoting: stable 100, candidate 100",
                "Steady: stable 100",
            ]
        );
        assert_eq!((world.tracks[0].ready, world.tracks[1].ready), (2, 0));
        let status = world.status.clone().expect("decided");
        assert_eq!(status.tracks[0].revision, world.plan.revision.as_str());
        // Once it is over nothing is written any more.
        world.writes = 0;
        world.run(100);
        assert_eq!(world.writes, 0);
    }

    #[test]
    fn a_canary_that_fails_is_given_up_in_its_first_step() {
        let mut world = World::new(canary());
        world.failing = 25;
        world.roll_out("s3://m/b").run(30);
        assert_eq!(
            world.told,
            [
                "NewRevision: stable 100, candidate 0",
                "CanaryStep: stable 80, candidate 20",
                "ErrorRateTooHigh: stable 100",
            ]
        );
        let status = world.status.clone().expect("decided");
        assert_eq!(status.phase, "Aborted");
        let message = status.message.expect("why");
        assert!(message.contains("`spec.rollout.abort.errorRate`"), "{message}");
        world.writes = 0;
        world.run(100);
        assert_eq!(world.writes, 0, "a revision that was given up is not tried again");
    }

    #[test]
    fn blue_green_switches_at_once_and_waits() {
        let mut world = World::new(json!({"strategy": "blueGreen", "pause": "10s"}));
        world.roll_out("s3://m/b").run(60);
        assert_eq!(
            world.told,
            [
                "NewRevision: stable 100, candidate 0",
                "Switched: stable 0, candidate 100",
                "RolloutComplete: stable 0, candidate 100",
                "Promoting: stable 100, candidate 100",
                "Steady: stable 100",
            ]
        );
    }

    #[test]
    fn a_way_back_in_the_middle() {
        let mut world = World::new(canary());
        let first = world.plan.revision.clone();
        world.roll_out("s3://m/b").run(5).roll_out("s3://m/a").run(5);
        assert_eq!(world.plan.revision, first);
        let reasons: Vec<&str> =
            world.told.iter().map(|told| told.split(':').next().unwrap_or_default()).collect();
        assert_eq!(reasons, ["NewRevision", "CanaryStep", "RolledBack", "Steady"]);
    }

    #[test]
    fn what_is_written_in_the_middle_is_little() {
        let mut world = World::new(json!({"strategy": "canary", "steps": [50], "pause": "1h"}));
        world.roll_out("s3://m/b").run(5);
        world.writes = 0;
        world.run(120);
        assert!(world.writes <= 4, "{}", world.writes);
    }

    #[test]
    fn a_newer_operator_goes_on_under_new_names() {
        let mut world = World::new(canary());
        let first = world.plan.revision.clone();
        world.roll_out("s3://m/b").run(5);
        let mut memory = Memory::read(world.status.as_ref().expect("decided")).expect("readable");
        assert_eq!(memory.names().len(), 2);
        memory.rename(&first, &RevisionName::stored("other"));
        assert_eq!(memory.state.stable().map(RevisionName::as_str), Some("other"));
        assert_eq!(memory.tracks.stable.as_ref().map(RevisionName::as_str), Some("other"));
        assert!(memory.is_under_way());
    }
}
