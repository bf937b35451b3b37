//! A replica as decisions see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trainyard_control::rollout::{Evidence, Replicas, Revision};
use trainyard_plan::RevisionName;

/// What a replica is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It ended by itself, and waits for its restart.
    Failed,
    /// It was started and is not ready, or not any more.
    Starting,
    /// It gets requests.
    Ready,
    /// It was told to end.
    Draining,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) id: Arc<str>,
    pub(crate) revision: RevisionName,
    pub(crate) phase: Phase,
    /// It ended again and again.
    pub(crate) crash_looping: bool,
    /// A person asked for it to be replaced by another one of its revision.
    pub(crate) outdated: bool,
    /// Its place among the slots of its revision, from 0.
    pub(crate) index: u32,
}

/// Counts replicas by revision, for the rollout's decision.
pub(crate) fn observe<'a>(
    replicas: impl Iterator<Item = &'a Replica>,
    mut evidence: impl FnMut(&RevisionName) -> Evidence,
) -> BTreeMap<RevisionName, Revision> {
    let mut revisions: BTreeMap<RevisionName, Revision> = BTreeMap::new();
    for replica in replicas {
        let revision = revisions.entry(replica.revision.clone()).or_insert_with_key(|name| {
            Revision { evidence: evidence(name), ..Revision::default() }
        });
        let Replicas { starting, ready, draining, failed } = &mut revision.replicas;
        let count = match replica.phase {
            Phase::Starting => starting,
            Phase::Ready => ready,
            Phase::Draining => draining,
            Phase::Failed => failed,
        };
        *count = count.saturating_add(1);
        revision.crash_looping |= replica.crash_looping && replica.phase != Phase::Draining;
    }
    revisions
}
