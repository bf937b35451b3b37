//! The scheduler's filters, run over a snapshot: what keeps a pod from each node.
//!
//! They follow kube-scheduler's filter plugins NodeResourcesFit, TaintToleration, NodeUnschedulable,
//! NodeName, NodeAffinity, NodePorts, VolumeBinding (of volumes that are bound, and of topologies
//! that a class allows), InterPodAffinity and PodTopologySpread. Unlike it they do not stop at the
//! first obstacle: what would let the pod in is told by all of them. Claims of dynamic resource
//! allocation are left to what the scheduler itself says.

mod affinity;
mod peers;
mod ports;
pub(crate) mod requests;
mod selector;
mod taints;
mod volumes;

use std::collections::BTreeMap;

use serde_json::Value;
use trainyard_rules::Quantity;

pub(crate) use self::selector::selects;
pub(crate) use self::taints::{is_tolerated, taint_text};
pub(crate) use self::volumes::claims;
use crate::view::{Node, Pod, View};

/// One thing that keeps a pod from one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Obstacle<'a> {
    /// The taint as it stands in the node; cordoned nodes have one too.
    Taint(&'a Value),
    /// `nodeSelector` asks for another value; none if the node lacks the label.
    Label {
        key: &'a str,
        wanted: &'a str,
        has: Option<&'a str>,
    },
    /// Required node affinity, in words.
    Affinity(String),
    Short(Short),
    Port {
        port: i64,
        holder: String,
    },
    Volume {
        claim: String,
        why: String,
    },
    /// Affinity to other pods, or spreading, in words.
    Peers(String),
}

/// Less of a resource than asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Short {
    pub(crate) resource: String,
    pub(crate) wanted: Quantity,
    pub(crate) free: Quantity,
    pub(crate) allocatable: Quantity,
}

/// What nodes have left.
#[derive(Clone)]
pub(crate) struct Space<'a> {
    /// By node and resource.
    used: BTreeMap<&'a str, Amounts>,
    /// Pods with anti-affinity.
    unsociable: Vec<Pod<'a>>,
}

/// Amounts of a pod by resource.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

impl<'a> Space<'a> {
    pub(crate) fn of(view: &View<'a>) -> Self {
        let mut used: BTreeMap<&str, Amounts> = BTreeMap::new();
        for pod in view.pods().iter().filter(|pod| !pod.has_ended()) {
            if !pod.node_name().is_empty() {
                add(used.entry(pod.node_name()).or_default(), &pod.requests(), 1);
            }
        }
        Self { used, unsociable: peers::unsociable(view) }
    }

    /// Whether pods run that keep others away.
    pub(crate) fn has_unsociable(&self) -> bool {
        !self.unsociable.is_empty()
    }

    pub(crate) fn free(&self, node: &Node<'_>, resource: &str) -> Quantity {
        let all = node.allocatable.get(resource).copied().unwrap_or(Quantity::whole(0));
        let used = self.used.get(node.name()).and_then(|it| it.get(resource));
        all.plus(used.copied().unwrap_or(Quantity::whole(0)).times(-1))
    }

    /// As if a pod went from one node to another.
    pub(crate) fn move_pod(&mut self, requests: &Amounts, from: &'a str, to: &'a str) {
        add(self.used.entry(from).or_default(), requests, -1);
        add(self.used.entry(to).or_default(), requests, 1);
    }

    /// What a node lacks for these amounts.
    pub(crate) fn short(&self, node: &Node<'_>, wanted: &Amounts) -> Vec<Short> {
        wanted
            .iter()
            .filter(|(_, wanted)| **wanted > Quantity::whole(0))
            .filter_map(|(resource, wanted)| {
                let free = self.free(node, resource);
                let allocatable =
                    node.allocatable.get(resource.as_str()).copied().unwrap_or(Quantity::whole(0));
                let resource = resource.clone();
                (*wanted > free).then_some(Short { resource, wanted: *wanted, free, allocatable })
            })
            .collect()
    }
}

fn add(sum: &mut Amounts, amounts: &Amounts, factor: i64) {
    for (name, amount) in amounts {
        let entry = sum.entry(name.clone()).or_insert(Quantity::whole(0));
        *entry = entry.plus(amount.times(factor));
    }
}

/// Everything that keeps a pod from a node.
pub(crate) fn obstacles<'a>(
    view: &View<'a>,
    space: &Space<'a>,
    pod: &Pod<'a>,
    wanted: &Amounts,
    node: &Node<'a>,
) -> Vec<Obstacle<'a>> {
    let mut found: Vec<Obstacle<'a>> =
        taints::untolerated(pod, node).map(Obstacle::Taint).collect();
    found.extend(affinity::obstacles(pod, node));
    found.extend(space.short(node, wanted).into_iter().map(Obstacle::Short));
    found.extend(ports::obstacles(view, pod, node));
    found.extend(volumes::obstacles(view, pod, node));
    found.extend(peers::obstacles(view, &space.unsociable, pod, node));
    found
}
