//! What is remembered of a service between decisions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_plan::RevisionName;

use super::decision::{Decision, Reason};
use super::evidence::Counts;
use super::observed::Observed;
use crate::autoscale;

/// The memory of one service's rollouts. Starts empty; store it after each decision, before the
/// decision is carried out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The last revision whose rollout was completed: it serves, and a rollout that is given up
    /// goes back to it.
    pub(super) stable: Option<RevisionName>,
    /// The rollout that is under way.
    pub(super) candidate: Option<Candidate>,
    /// The target, after its rollout failed. It stays given up until the plan asks for another.
    pub(super) given_up: Option<GivenUp>,
    /// How the last rollout ended, until the replicas that it leaves are gone.
    pub(super) ended: Option<Reason>,
    /// The replica count that was wanted last.
    pub(super) wanted: Option<u32>,
}

/// A revision on its way to become the stable one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    pub(super) revision: RevisionName,
    /// It took the place of another one that was still on its way.
    pub(super) superseded: bool,
    pub(super) stage: Stage,
    /// When it last came nearer to its goal, or had no replica that it waited for.
    pub(super) progress_at: Duration,
    /// Most ready replicas in this stage; in any step, where this stage is one.
    pub(super) most_ready: u32,
    /// Its counters when the evidence of this stage began.
    pub(super) own_before: Counts,
    /// The stable revision's counters at that time.
    pub(super) stable_before: Counts,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Stage {
    /// The replicas of the first stage with requests come up.
    Starting,
    /// It gets copies of requests.
    Mirroring { since: Duration },
    /// It gets the share of a step, once (`since`) that has its replicas.
    Step { index: usize, since: Option<Duration> },
    /// It has all requests and the old revision its replicas.
    Switched { since: Duration },
    /// Old replicas are replaced one by one: a rolling rollout, and a canary after its last step,
    /// which keeps at least that step's percentage.
    Replacing { at_least: u32 },
}

/// A revision that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GivenUp {
    pub(super) revision: RevisionName,
    pub(super) reason: Reason,
}

impl State {
    /// The state of a service of which only the revision that serves is known.
    pub fn serving(revision: RevisionName) -> Self {
        Self { stable: Some(revision), ..Self::default() }
    }

    /// The last revision whose rollout was completed: what a person calls the one that serves.
    pub fn stable(&self) -> Option<&RevisionName> {
        self.stable.as_ref()
    }

    /// The revision on its way to become the stable one, if there is one.
    pub fn candidate(&self) -> Option<&RevisionName> {
        self.candidate.as_ref().map(|candidate| &candidate.revision)
    }

    /// The replica count that was wanted at the last decision.
    pub fn wanted(&self) -> Option<u32> {
        self.wanted
    }

    /// A revision has another name from now on, with the same content: as when a newer back end
    /// writes the same workload differently.
    pub fn rename(&mut self, from: &RevisionName, to: &RevisionName) {
        let candidate = self.candidate.as_mut().map(|candidate| &mut candidate.revision);
        let given_up = self.given_up.as_mut().map(|gone| &mut gone.revision);
        for name in [self.stable.as_mut(), candidate, given_up].into_iter().flatten() {
            if name == from {
                name.clone_from(to);
            }
        }
    }

    /// Whether storing this one in place of `stored` may wait: nothing was decided between them,
    /// and of the time without progress less than `slack` would be counted twice.
    pub fn is_as_good_as(&self, stored: &Self, slack: Duration) -> bool {
        let mut same = stored.clone();
        if let (Some(same), Some(own)) = (&mut same.candidate, &self.candidate)
            && own.progress_at.saturating_sub(same.progress_at) < slack
        {
            same.progress_at = own.progress_at;
        }
        same == *self
    }

    /// Why a revision was given up, if it was.
    pub fn given_up(&self, revision: &RevisionName) -> Option<Reason> {
        self.given_up.as_ref().filter(|gone| gone.revision == *revision).map(|gone| gone.reason)
    }

    /// Tries the plan's revision once more although it was given up, as when a person applies the
    /// same manifest again.
    pub fn retry(&mut self) {
        self.given_up = None;
    }

    /// Goes on after nobody decided for a while, as when the back end was stopped: that time counts
    /// neither towards a pause nor towards the deadline.
    pub fn resume(&mut self, now: Duration) {
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        candidate.progress_at = now;
        match &mut candidate.stage {
            Stage::Mirroring { since } | Stage::Switched { since } => *since = now,
            Stage::Step { since, .. } => *since = since.map(|_| now),
            Stage::Starting | Stage::Replacing { .. } => {}
        }
    }

    /// The replicas that the autoscaler should reckon with.
    ///
    /// While a rollout lasts there are more than the service is meant to have; judged by all of
    /// them, the autoscaler would take the surplus for capacity and keep it.
    pub fn replicas(&self, observed: &Observed<'_>) -> autoscale::Replicas {
        let ready = observed
            .revisions
            .iter()
            .filter(|(name, _)| self.given_up(name).is_none())
            .fold(0u32, |sum, (_, revision)| sum.saturating_add(revision.replicas.ready));
        let wanted = self.wanted.unwrap_or(observed.wanted);
        let ready = ready.min(wanted);
        autoscale::Replicas { ready, starting: wanted.saturating_sub(ready) }
    }

    /// Decides what each revision should have now.
    pub fn decide(&mut self, observed: &Observed<'_>) -> Decision {
        super::decide::decide(self, observed)
    }
}

impl Candidate {
    pub(super) fn new(observed: &Observed<'_>, stage: Stage, superseded: bool) -> Self {
        Self {
            revision: observed.target.clone(),
            superseded,
            stage,
            progress_at: observed.now,
            most_ready: 0,
            own_before: Counts::default(),
            stable_before: Counts::default(),
        }
    }

    /// Goes to another stage; its deadline starts anew.
    pub(super) fn enter(&mut self, stage: Stage, now: Duration) {
        if !matches!((self.stage, stage), (Stage::Step { .. }, Stage::Step { .. })) {
            self.most_ready = 0;
        }
        self.stage = stage;
        self.progress_at = now;
    }
}
