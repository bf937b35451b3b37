//! What is remembered of a service between decisions.

use serde::{Deserialize, Serialize};
use trainyard_plan::RevisionName;

use super::decision::Decision;
use super::observed::Observed;
use crate::autoscale;

/// The memory of one service's rollouts. Starts empty; store it after each decision, before the
/// decision is carried out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The last revision whose rollout was completed: it serves, and a rollout that is given up
    /// goes back to it.
    stable: Option<RevisionName>,
    /// The replica count that was wanted last.
    wanted: Option<u32>,
}

impl State {
    /// The state of a service that a revision is known to serve.
    pub fn serving(revision: RevisionName) -> Self {
        Self { stable: Some(revision), ..Self::default() }
    }

    /// The last revision whose rollout was completed.
    pub fn stable(&self) -> Option<&RevisionName> {
        self.stable.as_ref()
    }

    /// Forgets that the target was given up, as when a person asks for it once more.
    pub fn retry(&mut self) {}

    /// The replicas that the autoscaler should reckon with.
    ///
    /// While a rollout lasts there are more than the service is meant to have; judged by all of
    /// them, the autoscaler would take the surplus for capacity and keep it.
    pub fn replicas(&self, observed: &Observed<'_>) -> autoscale::Replicas {
        let ready = observed.revisions.values().map(|r| r.replicas.ready).sum::<u32>();
        let wanted = self.wanted.unwrap_or(observed.wanted);
        let ready = ready.min(wanted);
        autoscale::Replicas { ready, starting: wanted - ready }
    }

    /// Decides what each revision should have now.
    pub fn decide(&mut self, observed: &Observed<'_>) -> Decision {
        super::decide::decide(self, observed)
    }

    pub(super) fn remember(&mut self, wanted: u32) {
        self.wanted = Some(wanted);
    }

    pub(super) fn complete(&mut self, revision: &RevisionName) {
        self.stable = Some(revision.clone());
    }
}
