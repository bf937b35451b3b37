//! What a rollout is decided from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_plan::{RevisionName, Rollout};

/// One service at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// How the plan wants it done. It may change in the middle.
    pub rollout: &'a Rollout,
    /// The plan's revision.
    pub target: &'a RevisionName,
    /// Replicas that the service should have: the autoscaler's decision, or the plan's `min`.
    pub wanted: u32,
    /// Replicas of the stable revision stay until none of its are needed, since something else says
    /// how many there are, as an autoscaler of Kubernetes does. New ones then come up beside them.
    pub stable_stays: bool,
    /// Every revision that has a replica in any state, the target or not.
    pub revisions: &'a BTreeMap<RevisionName, Revision>,
    /// Time since any fixed start. A [`State`](super::State) that is stored and read again by
    /// another process needs one that outlives the process, such as the Unix epoch.
    pub now: Duration,
}

/// What one revision has and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revision {
    pub replicas: Replicas,
    /// A replica of it is in a crash loop ([`restart::Reason::CrashLoop`](crate::restart::Reason)).
    pub crash_looping: bool,
    pub evidence: Evidence,
}

/// Replicas by what they are doing; each is in exactly one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    /// Started and not yet ready, or not ready any more.
    pub starting: u32,
    /// Ready for requests.
    pub ready: u32,
    /// Told to end; still there. They count for nothing but the room that they take.
    pub draining: u32,
    /// Ended by themselves and waiting for their restart.
    pub failed: u32,
}

/// How well a revision answered, counted by the gateway since it first saw the revision. Answers
/// to mirrored requests count too.
///
/// The counters only grow; when they fall the gateway is taken to have started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed by the revision's fault: a 5xx status, or no answer.
    pub failures: u64,
    /// The 99th percentile of the latency of the last minute's requests. `None`: there were none.
    pub p99: Option<Duration>,
}
