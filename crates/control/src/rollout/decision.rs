//! What a rollout decides.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_api::scalar::Percent;
use trainyard_plan::RevisionName;

/// What should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The target and every revision that was observed.
    pub revisions: BTreeMap<RevisionName, Allotment>,
    /// Whose copies of requests go where, while it lasts.
    pub mirror: Option<Mirror>,
    pub phase: Phase,
    pub reason: Reason,
    /// When to decide again even if no replica changes its state. `None`: no need.
    pub look_again_at: Option<Duration>,
}

/// What one revision should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allotment {
    /// Replicas that are starting, ready or failed; draining ones are not counted. Of a revision
    /// that has too many, failed ones go first, then starting ones, then ready ones.
    pub replicas: u32,
    /// Percent of the requests. Above 0 only with a ready replica.
    pub weight: u32,
}

/// A copy of requests whose answers are measured and dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub to: RevisionName,
    pub share: Percent,
}

/// How far a service is from what its plan asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The plan's revision serves alone.
    Stable,
    /// A change is under way.
    Progressing,
    /// A change waits: for its pause to end, or for evidence.
    Paused,
    /// The plan's revision was given up, and the one before serves.
    Aborted,
    /// The plan's revision does not become ready, and there is none before it.
    Stalled,
}

impl Phase {
    pub const ALL: [Self; 5] =
        [Self::Stable, Self::Progressing, Self::Paused, Self::Aborted, Self::Stalled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "Stable",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::Aborted => "Aborted",
            Self::Stalled => "Stalled",
        }
    }
}

/// Why a decision is what it is: the event's reason and the metric's label. An event is due when
/// it differs from that of the decision before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Nothing is to be rolled out.
    Steady,
    /// The first revision of the service starts.
    FirstRevision,
    /// A new revision starts; it has no requests yet.
    NewRevision,
    /// The plan changed again before the rollout was complete: the newest revision starts.
    Superseded,
    /// The new revision gets copies of requests.
    Mirroring,
    /// The new revision gets the share of a canary's step.
    CanaryStep,
    /// The pause is over, but there were too few requests to judge the new revision by.
    WaitingForEvidence,
    /// Old replicas are replaced by new ones.
    Replacing,
    /// All requests go to the new revision; the old one is still there to take over again.
    Switched,
    /// The new revision has replaced the old one.
    RolloutComplete,
    /// The service is at zero: the new revision replaced the old one without a start.
    ReplacedAtZero,
    /// The plan went back to the revision that serves before the rollout was complete.
    RolledBack,
    /// Given up: no replica became ready within the deadline.
    ProgressDeadlineExceeded,
    /// Given up: replicas end again and again.
    CrashLoop,
    /// Given up: the new revision fails more requests than allowed, and more than the old one.
    ErrorRateTooHigh,
    /// Given up: more than one in a hundred requests take longer than allowed.
    LatencyTooHigh,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "Steady",
            Self::FirstRevision => "FirstRevision",
            Self::NewRevision => "NewRevision",
            Self::Superseded => "Superseded",
            Self::Mirroring => "Mirroring",
            Self::CanaryStep => "CanaryStep",
            Self::WaitingForEvidence => "WaitingForEvidence",
            Self::Replacing => "Replacing",
            Self::Switched => "Switched",
            Self::RolloutComplete => "RolloutComplete",
            Self::ReplacedAtZero => "ReplacedAtZero",
            Self::RolledBack => "RolledBack",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::CrashLoop => "CrashLoop",
            Self::ErrorRateTooHigh => "ErrorRateTooHigh",
            Self::LatencyTooHigh => "LatencyTooHigh",
        }
    }
}
