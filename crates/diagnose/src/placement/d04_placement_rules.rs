use std::collections::BTreeSet;

use serde_json::json;

use crate::diagnosis::diagnosis;
use crate::patch;
use crate::pending::{Class, Pending, count};
use crate::report::Report;
use crate::schedule::Obstacle;
use crate::view::View;

diagnosis! {
    /// No node meets the pod's own placement rules
    ///
    /// ## Signature
    /// The pod is unschedulable, and nodes with room differ from what it asks of nodes: node selector,
    /// node affinity, affinity to other pods, spreading, host ports, or where its volumes are.
    ///
    /// ## Cause
    /// Mostly a label that is misspelt or that nobody sets.
    ///
    /// ## How to mend it
    /// Use a label that nodes have; the nearest ones are printed.
    D04, Error,
    needs: [Pods, Nodes],
    rules: ["GPU07"],
    yields_to: ["D09", "D14"],
    source: "kubernetes/kubernetes, plugins NodeAffinity, InterPodAffinity, PodTopologySpread, NodePorts, VolumeBinding; their messages `didn't match Pod's node affinity/selector` and the like",
    check: check,
}

const OURS: [Class; 4] = [Class::Placement, Class::Port, Class::Volume, Class::Peers];

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let Some(way) = pending.cheapest() else { continue };
        let others = [Class::GpuTaint, Class::OtherTaint, Class::Away, Class::TooLarge];
        if OURS.iter().any(|it| way.obstacles.contains(it))
            && !others.iter().any(|it| way.obstacles.contains(it))
            && pending.not_advertised().is_none()
        {
            tell(view, pending, report);
        }
    }
}

fn tell<'a>(view: &View<'a>, pending: &Pending<'a>, report: &mut Report) {
    let Some(way) = pending.cheapest() else { return };
    let object = pending.pod.object;
    let mut reasons: BTreeSet<String> = BTreeSet::new();
    let mut labels: BTreeSet<(&str, &str)> = BTreeSet::new();
    for verdict in pending.nodes_of(way) {
        for obstacle in &verdict.obstacles {
            match obstacle {
                Obstacle::Label { key, wanted, .. } => {
                    reasons.insert(format!("no node has the label `{key}: {wanted}`"));
                    labels.insert((key, wanted));
                }
                Obstacle::Affinity(words) => {
                    reasons.insert(format!("no node has {words}"));
                }
                Obstacle::Port { port, holder } => {
                    reasons.insert(format!("host port {port} is taken by {holder}"));
                }
                Obstacle::Volume { claim, why } => {
                    reasons.insert(format!("claim `{claim}` keeps it away: {why}"));
                }
                Obstacle::Peers(words) => {
                    reasons.insert(words.clone());
                }
                Obstacle::Taint(_) | Obstacle::Short(_) => {}
            }
        }
    }
    let shown: Vec<String> = reasons.into_iter().take(3).collect();
    let finding = report.at(
        object.reference(),
        format!(
            "{}: {} would take the pod otherwise",
            shown.join(" and "),
            count(way.nodes.len(), "node")
        ),
    );
    finding.unscheduled(object);
    finding.field(object, "/spec/nodeSelector");
    finding.field(object, "/spec/affinity");
    finding.field(object, "/spec/topologySpreadConstraints");
    for (key, wanted) in &labels {
        match nearest(view, key, wanted) {
            Some((near_key, near)) => {
                let on = view.nodes().iter().find(|it| it.object.label(near_key) == Some(near));
                if let Some(node) = on {
                    finding.value(node.object, &format!("metadata.labels.{near_key}"), near);
                }
                let selector = if near_key == *key {
                    json!({(*key): near})
                } else {
                    json!({(*key): null, (near_key): near})
                };
                let fix = patch::pod_spec(view, &pending.pod, json!({"nodeSelector": selector}));
                finding.mend(fix);
            }
            None => {
                let node = pending.nodes_of(way).next().map_or("NODE", |it| it.node.name());
                finding.run(format!("kubectl label node {node} {key}={wanted}"));
            }
        }
    }
    if labels.is_empty() {
        finding.advise("change the rule that is named, or add a node that meets it");
    }
    if way.obstacles.contains(&Class::Short) {
        finding.advise("and then free what it asks for there");
    }
    if let Some(other) = pending.otherwise() {
        finding.advise(other);
    }
}

/// The label of a node that looks most like one that nobody has: another value of the key, or the
/// same value under another key.
fn nearest<'a>(view: &View<'a>, key: &str, wanted: &str) -> Option<(&'a str, &'a str)> {
    let labels = || view.nodes().iter().flat_map(|node| node.object.labels());
    let of_key = labels().filter(|(other, _)| *other == key);
    let by_value = of_key.min_by_key(|(_, value)| (distance(value, wanted), *value));
    by_value.or_else(|| {
        let same = labels().filter(|(_, value)| similar(value, wanted));
        same.min_by_key(|(other, value)| (distance(value, wanted), distance(other, key), *other))
    })
}

/// One names the other, such as `A100` and `NVIDIA-A100-SXM4-40GB`.
fn similar(a: &str, b: &str) -> bool {
    let plain = |text: &str| -> String {
        let lower = text.to_ascii_lowercase();
        lower.trim_start_matches("nvidia-").trim_start_matches("tesla-").to_owned()
    };
    let (a, b) = (plain(a), plain(b));
    a.len() >= 2 && b.len() >= 2 && (a.contains(&b) || b.contains(&a))
}

/// Changes of one character each between two short texts.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 80;
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(LONGEST).collect(), b.chars().take(LONGEST).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut above = i;
        let mut next = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let change = above + usize::from(!left.eq_ignore_ascii_case(right));
            above = row.get(j + 1).copied().unwrap_or(change);
            let beside = next.last().copied().unwrap_or(change);
            next.push(change.min(above + 1).min(beside + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[test]
fn distances() {
    assert_eq!(distance("Tesla-T4", "tesla-t4"), 0);
    assert_eq!(distance("abc", "abd"), 1);
    assert_eq!(distance("", "ab"), 2);
    assert_eq!(distance("kitten", "sitting"), 3);
    assert!(similar("NVIDIA-A100-SXM4-40GB", "a100") && !similar("true", "a100"));
}
