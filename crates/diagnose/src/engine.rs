//! Runs the diagnoses over a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use crate::answer::{Answer, Confidence, Finding, ObjectRef, Unknown};
use crate::diagnosis::{Diagnosis, Need};
use crate::focus::Focus;
use crate::registry;
use crate::report::Report;
use crate::snapshot::{Snapshot, Unread};
use crate::view::View;

/// Says what is wrong in a snapshot, of what the focus asks for.
#[must_use]
pub fn diagnose(snapshot: &Snapshot, focus: &Focus) -> Answer {
    let view = View::new(snapshot);
    let mut findings = Vec::new();
    let mut unknown = Vec::new();
    for diagnosis in registry::all() {
        let mut report = Report::new(diagnosis);
        (diagnosis.check)(&view, &mut report);
        // What pods that nobody could read take of nodes may change the answer.
        let is_partial = diagnosis.needs.contains(&Need::AllPods)
            && snapshot.unread.iter().any(|it| it.what == Need::AllPods.what());
        for finding in &mut report.findings {
            if is_partial {
                finding.confidence = Confidence::Possible;
            }
        }
        findings.extend(report.findings);
        unknown.extend(missing(diagnosis, snapshot));
    }
    let findings = merge_replicas(&view, without_symptoms(findings));
    let mut findings = focus.keep(&view, findings);
    let order: BTreeMap<&str, usize> =
        registry::all().iter().enumerate().map(|(at, it)| (it.id, at)).collect();
    findings.sort_by(|a, b| {
        let key = |it: &Finding| (std::cmp::Reverse(it.level), order.get(it.diagnosis).copied());
        key(a).cmp(&key(b)).then_with(|| (&a.object, &a.message).cmp(&(&b.object, &b.message)))
    });
    Answer { findings, unknown }
}

/// What a diagnosis needs and nobody could read.
fn missing(diagnosis: &'static Diagnosis, snapshot: &Snapshot) -> Option<Unknown> {
    let lacking: Vec<&Unread> = snapshot
        .unread
        .iter()
        .filter(|unread| {
            diagnosis.needs.iter().any(|need| {
                let (what, asked) = (unread.what.as_str(), need.what());
                // `logs of pod …` and `… of other namespaces` are parts.
                let is_part = |rest: &str| {
                    rest.starts_with(" of pod")
                        || rest.starts_with(" of other") && matches!(need, Need::Resource(_))
                };
                what == asked || what.strip_prefix(asked).is_some_and(is_part)
            })
        })
        .collect();
    let reasons: BTreeSet<String> =
        lacking.iter().map(|it| format!("{}: {}", it.what, it.reason)).collect();
    let not_asked = lacking.iter().all(|it| it.not_asked);
    let reason = reasons.into_iter().collect::<Vec<_>>().join("; ");
    (!lacking.is_empty()).then(|| Unknown {
        diagnosis: diagnosis.id,
        title: diagnosis.title(),
        reason,
        not_asked,
    })
}

/// Leaves out what another finding on one of the same objects explains.
fn without_symptoms(findings: Vec<Finding>) -> Vec<Finding> {
    let mut found: BTreeMap<ObjectRef, BTreeSet<&'static str>> = BTreeMap::new();
    for finding in &findings {
        for object in std::iter::once(&finding.object).chain(&finding.also) {
            found.entry(object.clone()).or_default().insert(finding.diagnosis);
        }
    }
    findings
        .into_iter()
        .filter(|finding| {
            let yields_to = registry::find(finding.diagnosis).map_or(&[][..], |it| it.yields_to);
            let here = found.get(&finding.object);
            !here.is_some_and(|ids| yields_to.iter().any(|other| ids.contains(other)))
        })
        .collect()
}

/// Tells once what replicas of one controller have in common.
fn merge_replicas(view: &View<'_>, findings: Vec<Finding>) -> Vec<Finding> {
    let mut at: BTreeMap<(&'static str, ObjectRef, String), usize> = BTreeMap::new();
    let mut merged: Vec<Finding> = Vec::new();
    for finding in findings {
        let owner = (finding.object.kind == "Pod")
            .then(|| view.pod(&finding.object.namespace, &finding.object.name))
            .flatten()
            .map(|pod| view.top(pod.object).reference())
            .filter(|owner| owner.kind != "Pod");
        let Some(owner) = owner else {
            merged.push(finding);
            continue;
        };
        // Replicas' messages differ in their names only.
        let message = finding.message.replace(&finding.object.name, "");
        match at.get(&(finding.diagnosis, owner.clone(), message.clone())) {
            Some(first) => {
                if let Some(first) = merged.get_mut(*first) {
                    first.also.push(finding.object);
                    first.also.extend(finding.also);
                }
            }
            None => {
                at.insert((finding.diagnosis, owner, message), merged.len());
                merged.push(finding);
            }
        }
    }
    merged
}
