//! The four conditions of a service, as kstatus has them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Types of conditions, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ready,
    Progressing,
    Degraded,
    Stalled,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Ready, Self::Progressing, Self::Degraded, Self::Stalled];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Stalled => "Stalled",
        }
    }
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) holds: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Verdict {
    pub(crate) fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: true, reason: reason.to_owned(), message: message.into() }
    }

    pub(crate) fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: false, reason: reason.to_owned(), message: message.into() }
    }
}

/// Whether these conditions stand among those of before as they are. Conditions of others are theirs.
pub(crate) fn are_there(before: &[Condition], ours: &[Condition]) -> bool {
    let is_ours = |type_: &str| ours.iter().any(|it| it.type_ == type_);
    before.iter().filter(|it| is_ours(&it.type_)).eq(ours)
}

/// The conditions of these verdicts. A condition whose status is as before keeps its time, and one
/// that says the very same stays as it is, so that a repeated verdict is no change.
pub(crate) fn merge(
    before: &[Condition],
    verdicts: [Verdict; 4],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let all = Kind::ALL.into_iter().zip(verdicts);
    all.map(|(kind, verdict)| condition(before, kind.as_str(), verdict, generation, now)).collect()
}

/// The condition of one verdict, as [`merge`] makes it.
pub(crate) fn condition(
    before: &[Condition],
    type_: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if verdict.holds { "True" } else { "False" };
    let same = before.iter().find(|c| c.type_ == type_ && c.status == status);
    // Conditions have seconds: what is written and read again must be the same.
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        observed_generation: generation,
        last_transition_time: same
            .map_or(Time(second), |condition| condition.last_transition_time.clone()),
        reason: verdict.reason,
        message: verdict.message,
    }
}
