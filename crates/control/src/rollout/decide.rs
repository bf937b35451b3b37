//! The decision.

use std::time::Duration;

use trainyard_api::scalar::Percent;
use trainyard_plan::{Rollout, Strategy};

use super::decision::{Decision, Mirror, Phase, Reason};
use super::evidence::{Counts, Verdict, judge};
use super::observed::{Observed, Revision};
use super::room::{Room, Share, Slack};
use super::state::{Candidate, GivenUp, Stage, State};

/// Evidence changes without an event, so it is looked at in steps of this.
const EVIDENCE_PERIOD: Duration = Duration::from_secs(1);

/// Decides what each revision should have now.
pub(super) fn decide(state: &mut State, observed: &Observed<'_>) -> Decision {
    let decision = choose(state, observed);
    state.wanted = Some(observed.wanted);
    decision
}

fn choose(state: &mut State, observed: &Observed<'_>) -> Decision {
    state.given_up = state.given_up.take().filter(|gone| gone.revision == *observed.target);
    let abandoned = state.candidate.take_if(|candidate| candidate.revision != *observed.target);
    if let Some(given_up) = state.given_up.clone() {
        return back_to_stable(state, observed, given_up.reason);
    }
    if state.stable.as_ref() == Some(observed.target) {
        if abandoned.is_some() {
            state.ended = Some(Reason::RolledBack);
        }
        return settle(state, observed);
    }
    if observed.wanted == 0 {
        // Nothing runs that could be compared or lost.
        complete(state, observed, Reason::ReplacedAtZero);
        return settle(state, observed);
    }

    state.ended = None;
    let mut candidate = state.candidate.take().unwrap_or_else(|| {
        let stage = first_stage(state, observed.rollout);
        Candidate::new(observed, stage, abandoned.is_some())
    });
    let outcome = advance(&mut candidate, state, observed);
    match outcome {
        Outcome::Complete => {
            complete(state, observed, Reason::RolloutComplete);
            settle(state, observed)
        }
        Outcome::Failed(reason) if state.stable.is_some() => {
            state.given_up = Some(GivenUp { revision: candidate.revision, reason });
            back_to_stable(state, observed, reason)
        }
        Outcome::Failed(reason) => {
            let decision = carry_on(&candidate, state, observed, Verdict::Good);
            state.candidate = Some(candidate);
            // There is nothing to go back to: its replicas are tried again and again.
            Decision { phase: Phase::Stalled, reason, ..decision }
        }
        Outcome::UnderWay(verdict) => {
            let decision = carry_on(&candidate, state, observed, verdict);
            state.candidate = Some(candidate);
            decision
        }
    }
}

/// The target's rollout is over.
fn complete(state: &mut State, observed: &Observed<'_>, ended: Reason) {
    state.stable = Some(observed.target.clone());
    state.candidate = None;
    state.ended = Some(ended);
}

/// The target is the stable revision: it has all replicas, and what others still have goes.
fn settle(state: &mut State, observed: &Observed<'_>) -> Decision {
    let room = Room::new(observed, observed.target, None, None);
    let others_are_there = room.old_live() > 0;
    let counted = room.settled(Slack::of(&observed.rollout.strategy));
    let reason = match state.ended {
        Some(ended) => ended,
        None if others_are_there => Reason::Replacing,
        None => Reason::Steady,
    };
    if !others_are_there {
        state.ended = None;
    }
    let is_done =
        !others_are_there || matches!(reason, Reason::RolloutComplete | Reason::ReplacedAtZero);
    Decision {
        revisions: room.weighted(counted, Share::ByReplicas { at_least: 0 }),
        mirror: None,
        phase: if is_done { Phase::Stable } else { Phase::Progressing },
        reason,
        look_again_at: None,
    }
}

/// The target was given up: the stable revision has all replicas and all requests.
fn back_to_stable(state: &State, observed: &Observed<'_>, reason: Reason) -> Decision {
    // Without a stable revision nothing is ever given up.
    let lead = state.stable.as_ref().unwrap_or(observed.target);
    let room = Room::new(observed, lead, None, Some(observed.target));
    let counted = room.settled(Slack::of(&observed.rollout.strategy));
    Decision {
        revisions: room.weighted(counted, Share::ByReplicas { at_least: 0 }),
        mirror: None,
        phase: Phase::Aborted,
        reason,
        look_again_at: None,
    }
}

/// Where a rollout starts. Where nothing serves yet there is nothing to be careful about.
fn first_stage(state: &State, rollout: &Rollout) -> Stage {
    match &rollout.strategy {
        _ if state.stable.is_none() => Stage::Replacing { at_least: 0 },
        Strategy::Rolling { .. } => Stage::Replacing { at_least: 0 },
        Strategy::Canary { .. } | Strategy::BlueGreen { .. } => Stage::Starting,
    }
}

/// What became of a rollout.
enum Outcome {
    UnderWay(Verdict),
    Complete,
    Failed(Reason),
}

/// Takes in what was observed, and goes to the next stage when the time has come.
fn advance(candidate: &mut Candidate, state: &State, observed: &Observed<'_>) -> Outcome {
    let own = observed.revisions.get(observed.target).copied().unwrap_or_default();
    let stable = state.stable.as_ref().and_then(|stable| observed.revisions.get(stable));
    let stable = stable.copied().unwrap_or_default();
    if own.crash_looping {
        return Outcome::Failed(Reason::CrashLoop);
    }
    fit(candidate, observed);
    let mut verdict = judged(candidate, observed, &own, &stable);
    if let Verdict::Bad(reason) = verdict {
        return Outcome::Failed(reason);
    }
    // Each turn is a later stage, and there are few.
    loop {
        let before = candidate.stage;
        if next_stage(candidate, observed, own.replicas.ready, verdict) {
            return Outcome::Complete;
        }
        if candidate.stage == before {
            break;
        }
        if starts_evidence(before, candidate.stage) {
            candidate.own_before = Counts::of(&own.evidence);
            if !matches!(candidate.stage, Stage::Switched { .. }) {
                // After a switch the old revision has no requests to compare with: those from
                // before it stay the measure.
                candidate.stable_before = Counts::of(&stable.evidence);
            }
        }
        verdict = judged(candidate, observed, &own, &stable);
    }

    let needed = needed(candidate.stage, observed);
    let came_nearer = own.replicas.ready > candidate.most_ready;
    let waits_for_none = own.replicas.ready >= needed || own.replicas.unready() == 0;
    if came_nearer || waits_for_none {
        candidate.progress_at = observed.now;
    }
    candidate.most_ready = candidate.most_ready.max(own.replicas.ready);
    let waited = observed.now.saturating_sub(candidate.progress_at);
    if waited >= observed.rollout.progress_deadline && !waits_for_none {
        return Outcome::Failed(Reason::ProgressDeadlineExceeded);
    }
    Outcome::UnderWay(verdict)
}

/// Follows a plan whose strategy changed in the middle.
fn fit(candidate: &mut Candidate, observed: &Observed<'_>) {
    let now = observed.now;
    match (&observed.rollout.strategy, candidate.stage) {
        (_, Stage::Replacing { .. }) => {}
        // In a hurry: no more looking at it.
        (Strategy::Rolling { .. }, stage) => {
            let at_least = current_share(stage, &observed.rollout.strategy);
            candidate.enter(Stage::Replacing { at_least }, now);
        }
        (Strategy::Canary { .. }, Stage::Switched { .. }) => {
            candidate.enter(Stage::Replacing { at_least: 100 }, now);
        }
        (Strategy::BlueGreen { .. }, Stage::Step { .. }) => candidate.enter(Stage::Starting, now),
        (Strategy::Canary { .. } | Strategy::BlueGreen { .. }, _) => {}
    }
}

/// Judges the candidate where it has requests, or copies of them.
fn judged(
    candidate: &mut Candidate,
    observed: &Observed<'_>,
    own: &Revision,
    stable: &Revision,
) -> Verdict {
    let is_tried = match candidate.stage {
        Stage::Starting => false,
        Stage::Step { index, since } => index > 0 || since.is_some(),
        Stage::Mirroring { .. } | Stage::Switched { .. } | Stage::Replacing { .. } => true,
    };
    if !is_tried {
        return Verdict::Good;
    }
    let new = Counts::of(&own.evidence).since(&mut candidate.own_before);
    let old = Counts::of(&stable.evidence).since(&mut candidate.stable_before);
    judge(&observed.rollout.abort, new, own.evidence.p99, old)
}

/// Moves to the stage that the observation allows. Returns whether the rollout is complete.
fn next_stage(
    candidate: &mut Candidate,
    observed: &Observed<'_>,
    ready: u32,
    verdict: Verdict,
) -> bool {
    let now = observed.now;
    let pause_is_over = |since: Duration| now.saturating_sub(since) >= pause(observed.rollout);
    let has_its_replicas = ready >= needed(candidate.stage, observed);
    let next = match candidate.stage {
        Stage::Starting if !has_its_replicas => return false,
        Stage::Starting if observed.rollout.mirror.is_some() => Stage::Mirroring { since: now },
        Stage::Starting => after_start(observed),
        Stage::Mirroring { since } if pause_is_over(since) && verdict == Verdict::Good => {
            after_start(observed)
        }
        Stage::Step { index, since: None } if has_its_replicas => {
            Stage::Step { index, since: Some(now) }
        }
        Stage::Step { index, since: Some(since) }
            if pause_is_over(since) && verdict == Verdict::Good =>
        {
            let steps = steps(observed.rollout);
            let next = index.saturating_add(1);
            match steps.get(next) {
                Some(_) => Stage::Step { index: next, since: None },
                None => Stage::Replacing { at_least: steps.last().copied().map_or(0, u32::from) },
            }
        }
        Stage::Switched { since } => return pause_is_over(since) && has_its_replicas,
        Stage::Replacing { .. } => return has_its_replicas,
        Stage::Mirroring { .. } | Stage::Step { .. } => return false,
    };
    candidate.enter(next, now);
    false
}

/// The first stage with requests, which has its replicas ready.
fn after_start(observed: &Observed<'_>) -> Stage {
    match &observed.rollout.strategy {
        Strategy::Canary { steps, .. } if !steps.is_empty() => {
            Stage::Step { index: 0, since: None }
        }
        Strategy::Canary { .. } | Strategy::Rolling { .. } => Stage::Replacing { at_least: 0 },
        Strategy::BlueGreen { .. } => Stage::Switched { since: observed.now },
    }
}

/// Whether the requests of a stage are counted from its start: those before it were another share
/// of the traffic, or none.
fn starts_evidence(before: Stage, after: Stage) -> bool {
    match after {
        Stage::Mirroring { .. } | Stage::Switched { .. } => true,
        Stage::Step { since, .. } => since.is_some(),
        Stage::Replacing { .. } => !matches!(before, Stage::Replacing { .. }),
        Stage::Starting => false,
    }
}

/// Ready replicas that a stage needs; at least one and at most the wanted number.
fn needed(stage: Stage, observed: &Observed<'_>) -> u32 {
    let wanted = observed.wanted;
    let share = |percent: f64| {
        // `as` saturates, and makes NaN 0.
        let share = (f64::from(wanted) * percent / 100.0 - 1e-9).ceil() as u32;
        share.clamp(1, wanted.max(1))
    };
    let step = |index: usize| {
        steps(observed.rollout).get(index).map_or(wanted, |percent| share(f64::from(*percent)))
    };
    let is_canary = matches!(observed.rollout.strategy, Strategy::Canary { .. });
    match (stage, observed.rollout.mirror) {
        (Stage::Starting | Stage::Mirroring { .. }, Some(mirror)) if is_canary => {
            share(mirror.fraction() * 100.0)
        }
        (Stage::Starting | Stage::Mirroring { .. }, _) if is_canary => step(0),
        (Stage::Step { index, .. }, _) => step(index),
        _ => wanted,
    }
}

fn pause(rollout: &Rollout) -> Duration {
    match rollout.strategy {
        Strategy::Canary { pause, .. } | Strategy::BlueGreen { pause } => pause,
        Strategy::Rolling { .. } => Duration::ZERO,
    }
}

fn steps(rollout: &Rollout) -> &[u8] {
    match &rollout.strategy {
        Strategy::Canary { steps, .. } => steps,
        Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => &[],
    }
}

/// Percent of the requests that a stage gives the candidate when it has the replicas for it.
fn current_share(stage: Stage, strategy: &Strategy) -> u32 {
    let step = |index: usize| match strategy {
        Strategy::Canary { steps, .. } => steps.get(index).copied().map_or(0, u32::from),
        Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => 0,
    };
    match stage {
        Stage::Starting | Stage::Mirroring { .. } => 0,
        Stage::Step { index, since: Some(_) } => step(index),
        // Until the replicas of a step are ready, the share of the one before stays.
        Stage::Step { index, since: None } => index.checked_sub(1).map_or(0, step),
        Stage::Switched { .. } => 100,
        Stage::Replacing { at_least } => at_least,
    }
}

/// The decision of a rollout that is under way.
fn carry_on(
    candidate: &Candidate,
    state: &State,
    observed: &Observed<'_>,
    verdict: Verdict,
) -> Decision {
    let rollout = observed.rollout;
    let room = Room::new(observed, observed.target, state.stable.as_ref(), None);
    let ready = room.of(observed.target).ready;
    let needed = needed(candidate.stage, observed);
    let share = current_share(candidate.stage, &rollout.strategy);
    let (counted, share) = match candidate.stage {
        Stage::Replacing { at_least } => {
            let slack = Slack::of(&rollout.strategy);
            (room.replacing(slack), Share::ByReplicas { at_least })
        }
        Stage::Switched { .. } => (room.beside(needed), Share::Percent(share)),
        Stage::Starting | Stage::Mirroring { .. } | Stage::Step { .. } => {
            // Replicas that the step lost carry nothing: those that are left get no more each.
            // Those that it never had, as when more are wanted since, took nothing with them.
            let for_share = match candidate.stage {
                Stage::Step { index, since: None } => {
                    let before = Stage::Step { index: index.saturating_sub(1), since: None };
                    self::needed(before, observed)
                }
                _ => needed,
            };
            let had = for_share.min(candidate.most_ready).max(1);
            let fewer = share.saturating_mul(ready.min(had)) / had;
            (room.beside(needed), Share::Percent(if share == 0 { 0 } else { fewer.max(1) }))
        }
    };
    let (phase, reason) = told(candidate, state, verdict, ready, needed, observed);
    let mirror = match candidate.stage {
        Stage::Mirroring { .. } if ready > 0 => {
            rollout.mirror.map(|share: Percent| Mirror { to: observed.target.clone(), share })
        }
        _ => None,
    };
    Decision {
        revisions: room.weighted(counted, share),
        mirror,
        phase,
        reason,
        look_again_at: look_again_at(candidate, observed, ready, needed),
    }
}

fn told(
    candidate: &Candidate,
    state: &State,
    verdict: Verdict,
    ready: u32,
    needed: u32,
    observed: &Observed<'_>,
) -> (Phase, Reason) {
    let starting = match (&state.stable, candidate.superseded) {
        (None, _) => Reason::FirstRevision,
        (Some(_), true) => Reason::Superseded,
        (Some(_), false) => Reason::NewRevision,
    };
    let over = |since: Duration| {
        observed.now.saturating_sub(since) >= pause(observed.rollout) && verdict != Verdict::Good
    };
    match candidate.stage {
        Stage::Mirroring { since } | Stage::Step { since: Some(since), .. } if over(since) => {
            (Phase::Paused, Reason::WaitingForEvidence)
        }
        Stage::Starting | Stage::Step { index: 0, since: None } => (Phase::Progressing, starting),
        Stage::Replacing { .. } if ready == 0 || state.stable.is_none() => {
            (Phase::Progressing, starting)
        }
        Stage::Replacing { .. } => (Phase::Progressing, Reason::Replacing),
        Stage::Mirroring { .. } => (Phase::Paused, Reason::Mirroring),
        Stage::Step { since: None, .. } => (Phase::Progressing, Reason::CanaryStep),
        Stage::Step { since: Some(_), .. } => (Phase::Paused, Reason::CanaryStep),
        Stage::Switched { .. } if ready < needed => (Phase::Progressing, Reason::Switched),
        Stage::Switched { .. } => (Phase::Paused, Reason::Switched),
    }
}

/// The nearest moment at which time alone changes the decision.
fn look_again_at(
    candidate: &Candidate,
    observed: &Observed<'_>,
    ready: u32,
    needed: u32,
) -> Option<Duration> {
    let rollout = observed.rollout;
    let pause_ends = match candidate.stage {
        Stage::Mirroring { since }
        | Stage::Switched { since }
        | Stage::Step { since: Some(since), .. } => Some(since.saturating_add(pause(rollout))),
        Stage::Starting | Stage::Step { since: None, .. } | Stage::Replacing { .. } => None,
    };
    let gives_up =
        (ready < needed).then(|| candidate.progress_at.saturating_add(rollout.progress_deadline));
    let has_limits = rollout.abort.error_rate.is_some() || rollout.abort.p99.is_some();
    let evidence = (has_limits && ready > 0).then(|| observed.now.saturating_add(EVIDENCE_PERIOD));
    [pause_ends, gives_up, evidence].into_iter().flatten().filter(|at| *at > observed.now).min()
}
