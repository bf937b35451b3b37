//! How well each revision answers, as the rollout's decision takes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use trainyard_control::rollout::Evidence;
use trainyard_gateway::{Gateway, RevisionLoad};
use trainyard_plan::RevisionName;

/// The percentile of latency is of the requests of so long.
const WINDOW: Duration = Duration::from_secs(60);

/// Readings of the gateway's counters of one service's revisions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Observations {
    readings: BTreeMap<RevisionName, VecDeque<RevisionLoad>>,
}

impl Observations {
    /// Reads the counters of the revisions that have replicas, and forgets the others.
    pub(super) fn read(
        &mut self,
        gateway: &Gateway,
        service: &str,
        revisions: &BTreeSet<RevisionName>,
    ) {
        self.readings.retain(|revision, _| revisions.contains(revision));
        for revision in revisions {
            let Some(load) = gateway.observe_revision(service, revision.as_str()) else { continue };
            let readings = self.readings.entry(revision.clone()).or_default();
            // The one before the window's start stays, as what the window is counted from.
            while readings
                .get(1)
                .is_some_and(|second| load.at.saturating_duration_since(second.at) >= WINDOW)
            {
                readings.pop_front();
            }
            readings.push_back(load);
        }
    }

    pub(super) fn of(&self, revision: &RevisionName) -> Evidence {
        let readings = self.readings.get(revision);
        let Some((first, last)) = readings.and_then(|all| all.front().zip(all.back())) else {
            return Evidence::default();
        };
        Evidence { requests: last.requests, failures: last.failures, p99: last.since(first).p99() }
    }
}
