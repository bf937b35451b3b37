//! Required affinity to other pods, and spreading.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Obstacle;
use super::selector::selects;
use super::{affinity, taints};
use crate::view::{Node, Object, Pod, View, list, number, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Pods that a node has and that keep others away.
pub(super) fn unsociable<'a>(view: &View<'a>) -> Vec<Pod<'a>> {
    let at = format!("/spec/affinity/podAntiAffinity/{REQUIRED}");
    placed(view).filter(|pod| !pod.object.list(&at).is_empty()).collect()
}

pub(super) fn obstacles<'a>(
    view: &View<'a>,
    unsociable: &[Pod<'a>],
    pod: &Pod<'a>,
    node: &Node<'a>,
) -> Vec<Obstacle<'a>> {
    let mut found = Vec::new();
    for term in list(pod.object.0, &format!("/spec/affinity/podAffinity/{REQUIRED}")) {
        let key = text(term, "/topologyKey");
        let domain = node.object.label(key);
        let mut matching = placed(view).filter(|other| is_meant(view, term, pod, other)).peekable();
        // The first pod of a group that asks for company of its own kind may go anywhere.
        let is_first = matching.peek().is_none() && is_meant(view, term, pod, pod);
        let has_company =
            domain.is_some() && matching.any(|other| domain_of(view, &other, key) == domain);
        if !(has_company || is_first && domain.is_some()) {
            found.push(Obstacle::Peers(format!(
                "pod affinity asks for a `{key}` with pods that match {}",
                selector_text(term)
            )));
        }
    }
    for term in list(pod.object.0, &format!("/spec/affinity/podAntiAffinity/{REQUIRED}")) {
        let key = text(term, "/topologyKey");
        let Some(domain) = node.object.label(key) else { continue };
        let other = placed(view).find(|other| {
            is_meant(view, term, pod, other) && domain_of(view, other, key) == Some(domain)
        });
        if let Some(other) = other {
            found.push(Obstacle::Peers(format!(
                "pod anti-affinity keeps it from the `{key}` of {}",
                other.object.reference()
            )));
        }
    }
    for other in unsociable {
        for term in list(other.object.0, &format!("/spec/affinity/podAntiAffinity/{REQUIRED}")) {
            let key = text(term, "/topologyKey");
            let domain = node.object.label(key);
            if domain.is_some()
                && domain == domain_of(view, other, key)
                && is_meant(view, term, other, pod)
            {
                found.push(Obstacle::Peers(format!(
                    "{} keeps such pods from its `{key}` by anti-affinity",
                    other.object.reference()
                )));
            }
        }
    }
    let hard = |it: &&Value| text(it, "/whenUnsatisfiable") != "ScheduleAnyway";
    for constraint in pod.object.list("/spec/topologySpreadConstraints").iter().filter(hard) {
        found.extend(spread(view, pod, node, constraint).map(Obstacle::Peers));
    }
    found
}

/// Pods that a node has, and that count.
fn placed<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = Pod<'a>> + use<'v, 'a> {
    let counts =
        |pod: &&Pod<'a>| !pod.node_name().is_empty() && !pod.has_ended() && !pod.object.is_ending();
    view.pods().iter().filter(counts).cloned()
}

fn domain_of<'a>(view: &View<'a>, pod: &Pod<'a>, key: &str) -> Option<&'a str> {
    view.node(pod.node_name())?.object.label(key)
}

/// Whether a term of `of` means `other`.
fn is_meant<'a>(view: &View<'a>, term: &Value, of: &Pod<'a>, other: &Pod<'a>) -> bool {
    let namespace = other.object.namespace();
    let named = list(term, "/namespaces");
    let by_selector = term.get("namespaceSelector").filter(|it| it.is_object());
    let in_namespace = if named.is_empty() && by_selector.is_none() {
        namespace == of.object.namespace()
    } else {
        named.iter().any(|it| it.as_str() == Some(namespace))
            || by_selector.is_some_and(|selector| {
                let of_namespace = view.find("Namespace", "", namespace);
                selects(Some(selector), |key| of_namespace.and_then(|it| it.label(key)))
            })
    };
    in_namespace && selects(term.get("labelSelector"), |key| other.object.label(key))
}

fn selector_text(term: &Value) -> String {
    term.get("labelSelector").map_or_else(|| "nothing".to_owned(), Value::to_string)
}

/// Whether one more pod in the node's domain is more than `maxSkew` above the emptiest domain.
fn spread<'a>(
    view: &View<'a>,
    pod: &Pod<'a>,
    node: &Node<'a>,
    constraint: &Value,
) -> Option<String> {
    let key = text(constraint, "/topologyKey");
    let Some(domain) = node.object.label(key) else {
        return Some(format!("spreading asks for the label `{key}`, which the node lacks"));
    };
    let max_skew = number(constraint, "/maxSkew").unwrap_or(1);
    let counts_taints = text(constraint, "/nodeTaintsPolicy") == "Honor";
    let counts_affinity = text(constraint, "/nodeAffinityPolicy") != "Ignore";
    let is_eligible = |node: &Node<'a>| {
        (!counts_affinity || affinity::obstacles(pod, node).is_empty())
            && (!counts_taints || taints::untolerated(pod, node).next().is_none())
    };
    let eligible: Vec<&Node<'a>> = view.nodes().iter().filter(|node| is_eligible(node)).collect();
    let mut domains: BTreeMap<&str, i64> =
        eligible.iter().filter_map(|node| Some((node.object.label(key)?, 0))).collect();
    let names: BTreeSet<&str> = eligible.iter().map(|node| node.name()).collect();
    let is_counted =
        |object: Object<'a>| selects(constraint.get("labelSelector"), |it| object.label(it));
    for other in placed(view).filter(|it| names.contains(it.node_name())) {
        if other.object.namespace() == pod.object.namespace()
            && is_counted(other.object)
            && let Some(count) = domain_of(view, &other, key).and_then(|it| domains.get_mut(it))
        {
            *count = count.saturating_add(1);
        }
    }
    let enough =
        number(constraint, "/minDomains").is_none_or(|least| domains.len() as i64 >= least);
    let least = if enough { domains.values().min().copied().unwrap_or(0) } else { 0 };
    let own = i64::from(is_counted(pod.object));
    let here = domains.get(domain).copied().unwrap_or(0);
    (here.saturating_add(own).saturating_sub(least) > max_skew).then(|| {
        format!(
            "spreading over `{key}` allows a difference of {max_skew}: `{domain}` has {here}, the emptiest {least}"
        )
    })
}
