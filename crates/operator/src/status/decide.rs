//! From what was seen to the status.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use trainyard_api::model_service::{ModelServiceStatus, RevisionStatus, RolloutStatus};

use super::conditions::{Verdict, merge};
use crate::key::Declared;
use crate::pods::{PodFacts, Reason, Trouble, of_create_failure};
use crate::rollout::PROMOTING;
use crate::world::DeploymentFacts;

/// Why what the spec asks for cannot be brought about at all, whatever pods do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: Reason,
    /// What is wrong, with the field's path, and how to mend it.
    pub(crate) message: String,
}

/// One service at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Seen<'a> {
    pub(crate) generation: Option<i64>,
    /// The revision that the spec asks for; none if it has no plan.
    pub(crate) target: Option<&'a str>,
    pub(crate) problem: Option<Problem>,
    pub(crate) deployment: Option<&'a DeploymentFacts>,
    pub(crate) pods: Vec<&'a PodFacts>,
    /// What warnings say about the pod that is not ready and whose status says nothing.
    pub(crate) from_events: Option<&'a Trouble>,
    /// Fields of the spec that nothing in this cluster acts on.
    pub(crate) not_in_effect: Vec<String>,
    /// How requests are split, where there are steps.
    pub(crate) rollout: Option<&'a RolloutStatus>,
    /// A person stopped the service: no request starts it.
    pub(crate) is_stopped: bool,
    pub(crate) url: Option<String>,
    pub(crate) selector: Option<String>,
    pub(crate) before: Option<&'a ModelServiceStatus>,
    pub(crate) now: Timestamp,
}

/// What the replicas of all revisions come to.
struct Counts<'a> {
    ready: u32,
    ready_of_target: u32,
    /// Replicas of other revisions that are there.
    others: u32,
    /// The revision that answers most requests now.
    serving: Option<&'a str>,
    revisions: Vec<RevisionStatus>,
}

/// The status that a service should have.
pub(crate) fn decide(seen: &Seen<'_>) -> ModelServiceStatus {
    let counts = count(seen);
    let trouble = trouble(seen);
    let verdicts = verdicts(seen, &counts, trouble.as_ref());
    let before = seen.before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let kept = seen.before;
    ModelServiceStatus {
        observed_generation: seen.generation,
        conditions: merge(before, verdicts, seen.generation, seen.now),
        // What only a plan tells stays while there is none, since the objects stay too.
        url: seen.url.clone().or_else(|| kept.and_then(|status| status.url.clone())),
        revision: counts.serving.map(str::to_owned),
        replicas: seen
            .pods
            .iter()
            .filter(|pod| pod.is_replica())
            .count()
            .try_into()
            .unwrap_or(u32::MAX),
        ready_replicas: counts.ready,
        selector: seen.selector.clone().or_else(|| kept.and_then(|status| status.selector.clone())),
        revisions: counts.revisions,
        rollout: seen.rollout.cloned(),
    }
}

/// The conditions of a resource that cannot even be read.
pub(crate) fn stalled_only(
    before: &[Condition],
    problem: &Problem,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let reason = problem.reason.as_str();
    let verdicts = [
        Verdict::no(reason, problem.message.clone()),
        Verdict::no(reason, "nothing is changed until the resource can be read"),
        Verdict::no(reason, "what was there before goes on"),
        Verdict::yes(reason, problem.message.clone()),
    ];
    merge(before, verdicts, generation, now)
}

fn count<'a>(seen: &Seen<'a>) -> Counts<'a> {
    let mut by_revision: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for pod in seen.pods.iter().filter(|pod| pod.is_replica()) {
        let revision = pod.revision.as_deref().unwrap_or_default();
        let (replicas, ready) = by_revision.entry(revision).or_default();
        *replicas += 1;
        *ready += u32::from(pod.ready);
    }
    let ready: u32 = by_revision.values().map(|(_, ready)| ready).sum();
    let split = split(seen);
    let target = seen.target.unwrap_or_default();
    let of_target = by_revision.get(target).copied().unwrap_or_default();
    let serving = by_revision
        .iter()
        .filter(|(_, (_, ready))| *ready > 0)
        .max_by_key(|(name, (_, ready))| (*ready, **name == target))
        .map(|(name, _)| *name);
    let mut revisions: Vec<RevisionStatus> = by_revision
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, (replicas, ready_replicas))| RevisionStatus {
            name: (*name).to_owned(),
            // Without a split requests go to ready replicas, each as likely as the other.
            traffic: match &split {
                Some(split) => split.get(name).copied().unwrap_or(0),
                None => (ready_replicas * 100 + ready / 2).checked_div(ready).unwrap_or(0),
            },
            replicas: *replicas,
            ready_replicas: *ready_replicas,
        })
        .collect();
    revisions.sort_by_key(|revision| Some(revision.name.as_str()) != serving);
    let others = by_revision.iter().filter(|(name, _)| **name != target).map(|(_, (n, _))| n).sum();
    Counts {
        ready,
        ready_of_target: of_target.1,
        others,
        serving: serving.filter(|name| !name.is_empty()),
        revisions,
    }
}

/// The share of requests of each revision that pods have as their label: the share of their track.
fn split<'a>(seen: &Seen<'a>) -> Option<BTreeMap<&'a str, u32>> {
    let tracks = &seen.rollout?.tracks;
    let mut split = BTreeMap::new();
    for pod in seen.pods.iter().filter(|pod| pod.is_replica()) {
        let track = if pod.is_candidate { "candidate" } else { "stable" };
        let share = tracks.iter().find(|known| known.track == track && known.serves);
        let share = share.map_or(0, |track| track.weight);
        let of_pod = split.entry(pod.revision.as_deref().unwrap_or_default()).or_insert(share);
        *of_pod = share.max(*of_pod);
    }
    Some(split)
}

/// What is worst: of the revision that is asked for, else of the one that is there.
fn trouble(seen: &Seen<'_>) -> Option<Trouble> {
    if let Some(failure) = seen.deployment.and_then(|facts| facts.create_failure.as_deref()) {
        return Some(of_create_failure(failure));
    }
    let of_pods = |of_target: bool| {
        seen.pods
            .iter()
            .filter(|pod| !pod.ending && (pod.revision.as_deref() == seen.target) == of_target)
            // A replica that failed for good was replaced; while others serve it is history.
            .filter(|pod| !pod.ended || !seen.pods.iter().any(|other| other.is_replica()))
            .filter_map(|pod| pod.trouble.as_deref())
            .min_by_key(|trouble| (trouble.reason, trouble.pod.clone()))
            .cloned()
    };
    of_pods(true).or_else(|| of_pods(false)).or_else(|| seen.from_events.cloned())
}

fn verdicts(seen: &Seen<'_>, counts: &Counts<'_>, trouble: Option<&Trouble>) -> [Verdict; 4] {
    let serves = counts.serving.map(|revision| format!("revision `{revision}` answers requests"));
    if let Some(problem) = &seen.problem {
        let reason = problem.reason.as_str();
        let degraded = match serves {
            Some(serves) => Verdict::yes(reason, format!("{serves}; the spec is not in effect")),
            None => Verdict::no("NotServing", "no replica answers requests"),
        };
        return [
            Verdict::no(reason, problem.message.clone()),
            Verdict::no(reason, "waits for a change of the spec or of what stands in its way"),
            degraded,
            Verdict::yes(reason, problem.message.clone()),
        ];
    }
    let Some(facts) = seen.deployment.filter(|facts| facts.is_observed) else {
        let starting = "its objects are being applied";
        return [
            ready(seen, counts, "Applying", starting),
            Verdict::yes("Applying", starting),
            Verdict::no("AsAsked", ""),
            Verdict::no("NotStalled", ""),
        ];
    };
    if facts.wanted == 0 && counts.revisions.is_empty() {
        let ready = match seen.is_stopped {
            true => Verdict::no(
                "ScaledToZero",
                "no replica runs, as `spec.replicas` is 0; raise it, or remove it, to serve",
            ),
            false => Verdict::yes("ScaledToZero", "the next request starts a replica"),
        };
        return [
            ready,
            Verdict::no("ScaledToZero", ""),
            as_asked(seen),
            Verdict::no("NotStalled", ""),
        ];
    }
    if let Some(verdicts) = in_steps(seen, counts, trouble) {
        return verdicts;
    }
    in_numbers(seen, counts, facts, trouble)
}

/// What there is to say while two revisions are there by the strategy's own steps.
fn in_steps(
    seen: &Seen<'_>,
    counts: &Counts<'_>,
    trouble: Option<&Trouble>,
) -> Option<[Verdict; 4]> {
    let (rollout, target) = (seen.rollout?, seen.target?);
    let reason = rollout.reason.as_str();
    let share = rollout.tracks.iter().find(|track| track.revision == target);
    let share = share.map_or(0, |track| track.weight);
    let serves = match counts.serving {
        Some(serving) => format!("revision `{serving}` answers requests: "),
        None => String::new(),
    };
    if rollout.phase == "Aborted" {
        let why = rollout.message.clone().unwrap_or_default();
        let mend = "change the spec, or go back with `trainyard rollback`";
        return Some([
            Verdict::no(reason, why.clone()),
            Verdict::no(reason, "waits for a change of the spec"),
            Verdict::yes(reason, format!("{serves}{why}")),
            Verdict::yes(reason, format!("{why}; {mend}")),
        ]);
    }
    let message = match reason {
        "NewRevision" | "Superseded" => {
            format!("replicas of revision `{target}` start beside those that answer requests")
        }
        "Mirroring" => {
            let copied = rollout.mirror.as_ref().map(|it| it.share.to_string()).unwrap_or_default();
            format!("revision `{target}` gets copies of {copied} of the requests")
        }
        "CanaryStep" => format!("revision `{target}` gets {share}% of the requests"),
        "WaitingForEvidence" => format!(
            "revision `{target}` gets {share}% of the requests, which are too few so far to judge it by"
        ),
        "Switched" => format!(
            "revision `{target}` gets all requests; the one before stays, to take over again at once"
        ),
        "Replacing" => {
            format!(
                "revision `{target}` gets {share}% of the requests, and replaces the one before"
            )
        }
        PROMOTING => {
            let message =
                format!("revision `{target}` answers all requests, and moves to its final place");
            return Some([
                Verdict::yes("Serving", message.clone()),
                Verdict::yes(PROMOTING, message),
                as_asked(seen),
                Verdict::no("NotStalled", ""),
            ]);
        }
        _ => return None,
    };
    let found = trouble.filter(|trouble| trouble.reason.needs_a_person());
    Some(match found {
        Some(trouble) => {
            let (reason, why) = (trouble.reason.as_str(), trouble.message(Declared::ModelService));
            [
                Verdict::no(reason, why.clone()),
                Verdict::no(reason, "waits for a change of the spec or of what stands in its way"),
                Verdict::yes(reason, format!("{serves}{why}")),
                Verdict::yes(reason, why),
            ]
        }
        None => [
            Verdict::no(reason, message.clone()),
            Verdict::yes(reason, message),
            as_asked(seen),
            Verdict::no("NotStalled", ""),
        ],
    })
}

fn in_numbers(
    seen: &Seen<'_>,
    counts: &Counts<'_>,
    facts: &DeploymentFacts,
    trouble: Option<&Trouble>,
) -> [Verdict; 4] {
    let wanted = facts.wanted;
    // A change of placement is a new template of the same revision: pods alone do not tell.
    let is_of_one_template = facts.updated >= wanted && facts.replicas <= facts.updated;
    let is_whole = counts.ready_of_target >= wanted && counts.others == 0 && is_of_one_template;
    let of_wanted = format!("{} of {wanted} replicas answer requests", counts.ready_of_target);
    if is_whole {
        // All answer, but one may be about to fail.
        let sick = trouble.filter(|trouble| trouble.reason == Reason::GpuUnhealthy);
        let degraded = sick.map_or_else(
            || as_asked(seen),
            |it| Verdict::yes(it.reason.as_str(), it.message(Declared::ModelService)),
        );
        return [
            Verdict::yes("Serving", of_wanted),
            Verdict::no("Complete", "the revision that the spec asks for serves alone"),
            degraded,
            Verdict::no("NotStalled", ""),
        ];
    }
    // Once every replica was ready a Deployment's rollout is complete, whatever comes after.
    let is_rollout = !facts.is_complete() || counts.others > 0;
    let deadline = (facts.is_late() && is_rollout).then(|| {
        let waiting = trouble
            .map_or_else(|| of_wanted.clone(), |trouble| trouble.message(Declared::ModelService));
        (
            Reason::ProgressDeadlineExceeded,
            format!("no progress within the time allowed: {waiting}"),
        )
    });
    let found = trouble.map(|trouble| (trouble.reason, trouble.message(Declared::ModelService)));
    // A cause says more than that time has passed.
    let stuck = found.clone().filter(|(reason, _)| reason.needs_a_person());
    let stuck = stuck.or_else(|| {
        let reason = found.as_ref().map(|(reason, _)| *reason);
        deadline.map(|(late, message)| (reason.unwrap_or(late), message))
    });
    let stalls = stuck.as_ref().filter(|_| is_rollout || counts.ready_of_target == 0);

    let under_way = if is_rollout { "RollingOut" } else { "Scaling" };
    let cause = stuck.clone().or(found).map(|(reason, message)| (reason.as_str(), message));
    let (why, message) = cause.clone().unwrap_or((under_way, of_wanted));
    let progressing = match stalls {
        Some((reason, _)) => Verdict::no(
            reason.as_str(),
            "waits for a change of the spec or of what stands in its way",
        ),
        None => {
            Verdict::yes(cause.as_ref().map_or(under_way, |(reason, _)| reason), message.clone())
        }
    };
    let degraded = match (&cause, counts.serving) {
        (Some((reason, message)), Some(serving)) => {
            Verdict::yes(reason, format!("revision `{serving}` answers requests: {message}"))
        }
        (Some(_), None) => Verdict::no("NotServing", "no replica answers requests"),
        (None, _) => as_asked(seen),
    };
    let stalled = match stalls {
        Some((reason, message)) => Verdict::yes(reason.as_str(), message.clone()),
        None => Verdict::no("NotStalled", ""),
    };
    [ready(seen, counts, why, &message), progressing, degraded, stalled]
}

/// Nothing is wrong; but all that was asked for may still not be there.
fn as_asked(seen: &Seen<'_>) -> Verdict {
    match seen.not_in_effect.as_slice() {
        [] => Verdict::no("AsAsked", ""),
        fields => Verdict::yes("NotInEffect", fields.join("; ")),
    }
}

/// Whether the revision that the spec asks for answers all requests.
fn ready(seen: &Seen<'_>, counts: &Counts<'_>, why: &str, message: &str) -> Verdict {
    let wanted = seen.deployment.map_or(0, |facts| facts.wanted);
    if counts.ready_of_target > 0 && counts.others == 0 {
        let of_wanted = format!("{} of {wanted} replicas answer requests", counts.ready_of_target);
        return Verdict::yes("Serving", of_wanted);
    }
    Verdict::no(why, message)
}

#[cfg(test)]
mod tests;
