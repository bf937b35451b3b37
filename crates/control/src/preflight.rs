//! Decides whether a job may ask for room: once what it needs was looked for.
//!
//! Data that is not there, or an image that nobody may pull, would hold GPUs or a queue's quota in vain
//! until a person notices. So a small pod looks first, once for each spec. In: the [`State`] so far and
//! what is [`Seen`] of that pod. Out: the next state and the [`Reason`] of the step.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_plan::JobPlan;

/// The pause after a look that brought no answer; it doubles with each in a row.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Looks in a row that end by their own fault, after which the job starts without: its workers find
/// out what is wrong, as they would where nobody looks.
const MOST_BROKEN: u32 = 3;

/// A pod for which no node has room is waited for so long. What fills the nodes may be what this job
/// would push out, once it stands in its queue.
pub const ROOM: Duration = Duration::from_secs(60);

/// How far the look is. Times are since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub stage: Stage,
    /// Looks in a row without an answer.
    #[serde(default)]
    pub row: u32,
    /// Those of them that ended by their own fault.
    #[serde(default)]
    broken: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// A pod looks, or is to be made.
    Looking,
    /// The last one brought no answer: the next one is made then.
    Pausing { until: Duration },
    /// The job may ask for room.
    Passed,
    /// A person has to mend the spec.
    Refused,
}

/// What is seen of the pod that looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It has not ended.
    Pending,
    Passed,
    /// No node has room for it, since so long.
    NoRoom {
        waited: Duration,
    },
    /// Something is not there, or not allowed.
    Wrong,
    /// A store does not answer, and may later.
    Unavailable,
    /// Somebody other than us ended it: its node is gone, it was evicted or deleted.
    Lost,
    /// It ended by a fault of its own, such as at its memory limit.
    Broken,
    /// Another system of the cluster keeps it from running.
    Held,
}

/// Why the state is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Checked,
    DataNotThere,
    DataUnavailable,
    /// Nobody knows what the look would have found: it is made again.
    LookLost,
    /// Nor will anybody: the job starts without.
    NotChecked,
}

impl Reason {
    /// The event's reason and the condition's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checked => "Checked",
            Self::DataNotThere => "DataNotThere",
            Self::DataUnavailable => "DataUnavailable",
            Self::LookLost => "LookLost",
            Self::NotChecked => "NotChecked",
        }
    }
}

/// Whether a job holds something while it finds out by itself: GPUs; or its queue's quota, if it reads
/// anything that may not be there. All others find out as fast by themselves, and hold up nobody.
pub fn is_needed(plan: &JobPlan, has_queue: bool) -> bool {
    let has_store = plan.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.uri.is_some());
    plan.resources.gpu.is_some() || has_queue && (has_store || !plan.data.is_empty())
}

impl Default for State {
    /// Of a spec that nobody has looked at.
    fn default() -> Self {
        Self { stage: Stage::Looking, row: 0, broken: 0 }
    }
}

impl State {
    /// When something is to be decided though nothing has happened.
    pub fn look_again_at(&self) -> Option<Duration> {
        match self.stage {
            Stage::Pausing { until } => Some(until),
            Stage::Looking | Stage::Passed | Stage::Refused => None,
        }
    }

    fn pausing(self, broken: u32, now: Duration) -> Self {
        let factor = 1u32.checked_shl(self.row).unwrap_or(u32::MAX);
        let pause = PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
        let until = now.saturating_add(pause);
        Self { stage: Stage::Pausing { until }, row: self.row.saturating_add(1), broken }
    }
}

/// Decides one step; none if nothing changes. Of the pod only that counts which was made in this stage.
///
/// A step without a reason is no news: a pause is over.
pub fn decide(state: &State, seen: Seen, now: Duration) -> Option<(State, Option<Reason>)> {
    let at = |stage| State { stage, ..State::default() };
    match state.stage {
        Stage::Passed | Stage::Refused => return None,
        Stage::Pausing { until } if now < until => return None,
        Stage::Pausing { .. } => return Some((State { stage: Stage::Looking, ..*state }, None)),
        Stage::Looking => {}
    }
    let (next, reason) = match seen {
        Seen::Pending => return None,
        Seen::NoRoom { waited } if waited < ROOM => return None,
        Seen::Passed => (at(Stage::Passed), Reason::Checked),
        Seen::Wrong => (at(Stage::Refused), Reason::DataNotThere),
        Seen::Unavailable => (state.pausing(0, now), Reason::DataUnavailable),
        Seen::Lost => (state.pausing(state.broken, now), Reason::LookLost),
        Seen::Broken if state.broken.saturating_add(1) < MOST_BROKEN => {
            (state.pausing(state.broken.saturating_add(1), now), Reason::LookLost)
        }
        Seen::Broken | Seen::Held | Seen::NoRoom { .. } => (at(Stage::Passed), Reason::NotChecked),
    };
    Some((next, Some(reason)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trainyard_api::TrainingJob;
    use trainyard_plan::{PoolFacts, Target, compile_job};

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A look, step by step: second, what is seen, and the stage and reason that follow.
    #[track_caller]
    fn check(steps: &[(u64, Seen, Stage, Option<Reason>)]) {
        let mut state = State::default();
        for (second, seen, stage, reason) in steps {
            let step = decide(&state, *seen, at(*second));
            let (next, why) = step.unwrap_or((state, None));
            assert_eq!((next.stage, why), (*stage, *reason), "at {second} s");
            state = next;
        }
    }

    #[test]
    fn what_follows_from_a_look() {
        use Seen::{Broken, Held, Lost, Passed, Pending, Unavailable, Wrong};
        let pausing = |until| Stage::Pausing { until: at(until) };
        let looking = Stage::Looking;
        let (lost, unavailable) = (Some(Reason::LookLost), Some(Reason::DataUnavailable));
        let not_checked = Some(Reason::NotChecked);
        check(&[
            (0, Pending, looking, None),
            (9, Passed, Stage::Passed, Some(Reason::Checked)),
            (10, Wrong, Stage::Passed, None),
        ]);
        check(&[
            (0, Wrong, Stage::Refused, Some(Reason::DataNotThere)),
            (1, Passed, Stage::Refused, None),
        ]);
        // Each pause is twice the one before, and what was seen before it counts no more.
        check(&[
            (0, Unavailable, pausing(2), unavailable),
            (1, Unavailable, pausing(2), None),
            (2, Unavailable, looking, None),
            (10, Unavailable, pausing(14), unavailable),
            (14, Pending, looking, None),
            (20, Lost, pausing(28), lost),
            (28, Pending, looking, None),
            (29, Passed, Stage::Passed, Some(Reason::Checked)),
        ]);
        check(&[
            (0, Broken, pausing(2), lost),
            (2, Pending, looking, None),
            (3, Broken, pausing(7), lost),
            (7, Pending, looking, None),
            (8, Broken, Stage::Passed, not_checked),
        ]);
        // A store that does not answer says that looking works.
        check(&[
            (0, Broken, pausing(2), lost),
            (2, Pending, looking, None),
            (3, Unavailable, pausing(7), unavailable),
            (7, Pending, looking, None),
            (8, Broken, pausing(16), lost),
        ]);
        check(&[(0, Held, Stage::Passed, not_checked)]);
        let no_room = |waited| Seen::NoRoom { waited: at(waited) };
        check(&[(59, no_room(59), looking, None), (60, no_room(60), Stage::Passed, not_checked)]);
    }

    #[test]
    fn who_is_looked_at() {
        let needed = |more: serde_json::Value, has_queue| {
            let mut spec =
                serde_json::json!({"framework": "generic", "image": "i", "command": ["t"]});
            for (field, value) in more.as_object().into_iter().flatten() {
                spec[field] = value.clone();
            }
            let job: TrainingJob = serde_json::from_value(serde_json::json!({
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
                "metadata": {"name": "a"}, "spec": spec,
            }))
            .expect("a job");
            let pools = [("default".to_owned(), Ok(PoolFacts::of_shares(4, None)))];
            let target = Target::Kubernetes { image: "t".to_owned(), gpu_pools: pools.into() };
            is_needed(&compile_job(&job, &target).expect("a plan"), has_queue)
        };
        let both = |more: serde_json::Value| [needed(more.clone(), false), needed(more, true)];
        assert_eq!(both(serde_json::json!({})), [false, false]);
        assert_eq!(both(serde_json::json!({"resources": {"gpu": {"count": 1}}})), [true, true]);
        let data = serde_json::json!({"data": [{"name": "a", "uri": "s3://b/a"}]});
        assert_eq!(both(data), [false, true]);
        let checkpoint = |uri| serde_json::json!({"checkpoint": {"path": "c", "uri": uri}});
        assert_eq!(both(checkpoint(Some("s3://b/c"))), [false, true]);
        assert_eq!(both(checkpoint(None)), [false, false]);
    }

    proptest! {
        /// Whatever is seen, the next look is at most a minute away, and what is over stays so.
        #[test]
        fn pauses_are_bounded(seen in prop::collection::vec(0usize..7, 0..60)) {
            let all = [Seen::Pending, Seen::Passed, Seen::Wrong, Seen::Unavailable, Seen::Lost, Seen::Broken, Seen::Held];
            let mut state = State::default();
            let mut now = at(1);
            for seen in seen {
                if let Some((next, _)) = decide(&state, all[seen], now) {
                    prop_assert!(!matches!(state.stage, Stage::Passed | Stage::Refused));
                    state = next;
                }
                if let Some(until) = state.look_again_at() {
                    prop_assert!(until >= now && until - now <= LONGEST_PAUSE);
                    now = until;
                }
                let text = serde_json::to_string(&state).unwrap();
                prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
            }
        }
    }
}
