//! Which change of a status is worth an event.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::Kind;
use crate::rollout::PROMOTING;

/// What a change that goes well comes by. Another reason is a cause that may pass, and a warning.
const STEPS: [&str; 11] = [
    "RollingOut",
    "NewRevision",
    "Superseded",
    "Mirroring",
    "CanaryStep",
    "WaitingForEvidence",
    "Switched",
    "Replacing",
    PROMOTING,
    "LabellingNodes",
    "TaintingNodes",
];

/// An event about a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) is_warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// The events that go with a change from the conditions of one status to those of the next. Since they are told from what was
/// written before, a restart repeats none.
pub(crate) fn news(before: &[Condition], after: &[Condition]) -> Vec<News> {
    let mut news: Vec<News> = Vec::new();
    for kind in [Kind::Stalled, Kind::Degraded, Kind::Progressing, Kind::Ready] {
        let find = |conditions: &[Condition]| {
            let holds = |c: &&Condition| c.type_ == kind.as_str() && c.status == "True";
            conditions.iter().find(holds).cloned()
        };
        let Some(now) = find(after) else { continue };
        let then = find(before);
        if then.is_some_and(|then| then.reason == now.reason) {
            continue;
        }
        let is_warning = match kind {
            Kind::Stalled | Kind::Degraded => true,
            // A cause that may pass is a warning too; that objects are applied is no news.
            Kind::Progressing if now.reason == "Applying" || now.reason == "Scaling" => continue,
            Kind::Progressing => !STEPS.contains(&now.reason.as_str()),
            Kind::Ready => false,
        };
        // One cause shows in several conditions.
        if news.iter().all(|told| told.reason != now.reason) {
            news.push(News { is_warning, reason: now.reason, note: now.message });
        }
    }
    news
}
