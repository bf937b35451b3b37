//! What keeps pods from nodes, and the cheapest change that would let them in.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;
use trainyard_rules::Quantity;

use crate::schedule::{Amounts, Obstacle, Short, Space, obstacles, taint_text};
use crate::view::{Node, Object, Pod, View, is_gpu_resource, text};

/// A pod that waits for a node.
pub(crate) struct Pending<'a> {
    pub(crate) pod: Pod<'a>,
    pub(crate) wanted: Amounts,
    pub(crate) verdicts: Rc<Vec<Verdict<'a>>>,
    /// What has to change for some nodes to take it, the cheapest first; empty if nothing is known to
    /// keep it away.
    pub(crate) ways: Vec<Way>,
    pub(crate) space: Rc<Space<'a>>,
}

/// What one node says to it.
pub(crate) struct Verdict<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) obstacles: Vec<Obstacle<'a>>,
}

/// Nodes that would take the pod if the same kinds of things were otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Way {
    pub(crate) obstacles: BTreeSet<Class>,
    /// Indexes of verdicts.
    pub(crate) nodes: Vec<usize>,
    cost: u32,
}

/// Obstacles by what would have to be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// A taint that says "GPU" to a pod that asks for GPUs: a toleration is missing.
    GpuTaint,
    /// Labels and node affinity.
    Placement,
    /// Others have what it asks for.
    Short,
    Port,
    Volume,
    Peers,
    /// A taint that somebody put there for others.
    OtherTaint,
    /// The node is not to be used: cordoned, not ready, of the control plane, or reserved for GPUs
    /// that the pod does not ask for.
    Away,
    /// An empty node would not have enough.
    TooLarge,
}

impl Class {
    /// How far from what a person would do, in steps; ours. What is cheapest is told as the cause.
    fn cost(self) -> u32 {
        match self {
            Self::GpuTaint | Self::Placement => 1,
            Self::Short | Self::Port => 2,
            Self::OtherTaint | Self::Volume | Self::Peers => 3,
            Self::Away => 5,
            Self::TooLarge => 20,
        }
    }
}

/// Taints that say that a node is not to be used now or by everybody.
const AWAY: [&str; 4] = [
    "node.kubernetes.io/",
    "node-role.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler",
];

/// Whether a taint's key says that a node has GPUs.
fn names_gpus(taint: &Value) -> bool {
    let names = |text: &str| text.contains("gpu") || text.contains("habana.ai");
    names(text(taint, "/key")) || names(text(taint, "/value"))
}

fn class(obstacle: &Obstacle<'_>, asks_for_gpu: bool) -> Class {
    match obstacle {
        Obstacle::Taint(taint) => {
            let key = text(taint, "/key");
            if AWAY.iter().any(|prefix| key.starts_with(prefix)) {
                Class::Away
            } else if names_gpus(taint) {
                if asks_for_gpu { Class::GpuTaint } else { Class::Away }
            } else {
                Class::OtherTaint
            }
        }
        Obstacle::Label { .. } | Obstacle::Affinity(_) => Class::Placement,
        Obstacle::Short(short) if short.wanted > short.allocatable => Class::TooLarge,
        Obstacle::Short(_) => Class::Short,
        Obstacle::Port { .. } => Class::Port,
        Obstacle::Volume { .. } => Class::Volume,
        Obstacle::Peers(_) => Class::Peers,
    }
}

/// Looks at each pod that waits. Replicas share their verdicts.
pub(crate) fn analyse<'a>(view: &View<'a>) -> Vec<Pending<'a>> {
    let space = Rc::new(Space::of(view));
    let mut known: BTreeMap<(String, String), Rc<Vec<Verdict<'a>>>> = BTreeMap::new();
    let waiting =
        view.pods().iter().filter(|pod| pod.is_waiting_for_node() && is_refused(view, pod));
    waiting
        .map(|pod| {
            let wanted = pod.requests();
            let look = || {
                let verdict = |node: &Node<'a>| Verdict {
                    node: node.clone(),
                    obstacles: obstacles(view, &space, pod, &wanted, node),
                };
                Rc::new(view.nodes().iter().map(verdict).collect::<Vec<_>>())
            };
            let verdicts = match pod.object.controller() {
                Some(owner) => {
                    let spec = pod.object.at("/spec").map(Value::to_string).unwrap_or_default();
                    known.entry((owner.to_string(), spec)).or_insert_with(look).clone()
                }
                None => look(),
            };
            let ways = ways(pod, &verdicts);
            Pending { pod: pod.clone(), wanted, verdicts, ways, space: space.clone() }
        })
        .collect()
}

/// The scheduler said that it found no node.
fn is_refused<'a>(view: &View<'a>, pod: &Pod<'a>) -> bool {
    let condition = pod.object.condition("PodScheduled");
    condition.is_some_and(|it| text(it, "/status") == "False")
        || view.events_of(pod.object).iter().any(|event| event.reason == "FailedScheduling")
}

fn ways(pod: &Pod<'_>, verdicts: &[Verdict<'_>]) -> Vec<Way> {
    let asks_for_gpu = !pod.gpus().is_empty();
    let mut by_obstacles: BTreeMap<BTreeSet<Class>, Vec<usize>> = BTreeMap::new();
    for (index, verdict) in verdicts.iter().enumerate() {
        let classes: BTreeSet<Class> =
            verdict.obstacles.iter().map(|it| class(it, asks_for_gpu)).collect();
        if classes.is_empty() {
            // Some node would take it: nothing that is modelled here keeps it away.
            return Vec::new();
        }
        by_obstacles.entry(classes).or_default().push(index);
    }
    let cost = |classes: &BTreeSet<Class>| classes.iter().map(|it| it.cost()).sum();
    let mut ways: Vec<Way> = by_obstacles
        .into_iter()
        .map(|(obstacles, nodes)| Way { cost: cost(&obstacles), obstacles, nodes })
        .collect();
    ways.sort_by(|a, b| (a.cost, &a.obstacles).cmp(&(b.cost, &b.obstacles)));
    ways
}

/// The resource that a way lacks, and what there is of it.
pub(crate) struct Lack<'p, 'a> {
    pub(crate) resource: String,
    pub(crate) wanted: Quantity,
    /// The nodes of the way, with what is free there.
    pub(crate) nodes: Vec<(&'p Node<'a>, Quantity)>,
}

impl<'a> Pending<'a> {
    pub(crate) fn cheapest(&self) -> Option<&Way> {
        self.ways.first()
    }

    pub(crate) fn needs(&self, class: Class) -> bool {
        self.cheapest().is_some_and(|way| way.obstacles.contains(&class))
    }

    /// An extended resource that no node has; none where no node is known.
    pub(crate) fn not_advertised(&self) -> Option<(&str, Quantity)> {
        if self.verdicts.is_empty() {
            return None;
        }
        let is_extended = |name: &str| name.contains('/') && !name.starts_with("kubernetes.io/");
        let nobody_has = |name: &str| {
            let has =
                |it: &Verdict<'a>| it.node.allocatable.get(name).is_some_and(|it| !it.is_zero());
            !self.verdicts.iter().any(has)
        };
        let mut wanted = self.wanted.iter().filter(|(_, wanted)| !wanted.is_zero());
        let (name, wanted) = wanted.find(|(name, _)| is_extended(name) && nobody_has(name))?;
        Some((name, *wanted))
    }

    pub(crate) fn nodes_of(&self, way: &Way) -> impl Iterator<Item = &Verdict<'a>> {
        way.nodes.iter().filter_map(|index| self.verdicts.get(*index))
    }

    /// What the way's nodes are short of; of several resources the GPUs.
    pub(crate) fn lack(&self, way: &Way) -> Option<Lack<'_, 'a>> {
        let mut short: BTreeMap<&str, (usize, &Short)> = BTreeMap::new();
        for verdict in self.nodes_of(way) {
            for obstacle in &verdict.obstacles {
                if let Obstacle::Short(it) = obstacle {
                    let entry = short.entry(&it.resource).or_insert((0, it));
                    entry.0 = entry.0.saturating_add(1);
                    if it.allocatable > entry.1.allocatable {
                        entry.1 = it;
                    }
                }
            }
        }
        let (_, (_, it)) =
            short.into_iter().max_by_key(|(name, (nodes, _))| (is_gpu_resource(name), *nodes))?;
        let free = |verdict: &'_ Verdict<'a>| self.space.free(&verdict.node, &it.resource);
        let mut nodes: Vec<_> =
            self.nodes_of(way).map(|verdict| (&verdict.node, free(verdict))).collect();
        nodes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.name().cmp(b.0.name())));
        Some(Lack { resource: it.resource.clone(), wanted: it.wanted, nodes })
    }

    /// What the scheduler itself says.
    pub(crate) fn message(&self) -> &'a str {
        self.pod.object.condition("PodScheduled").map_or("", |it| text(it, "/message"))
    }

    /// Taints that the nodes of a way have and the pod does not tolerate, by node count.
    pub(crate) fn taints(&self, way: &Way) -> BTreeMap<String, (Vec<&'a str>, &'a Value)> {
        let mut taints: BTreeMap<String, (Vec<&str>, &Value)> = BTreeMap::new();
        for verdict in self.nodes_of(way) {
            for obstacle in &verdict.obstacles {
                if let Obstacle::Taint(taint) = obstacle {
                    let entry = taints.entry(taint_text(taint)).or_insert((Vec::new(), taint));
                    entry.0.push(verdict.node.name());
                }
            }
        }
        taints
    }

    /// What else would let it in, in words: the second cheapest way.
    pub(crate) fn otherwise(&self) -> Option<String> {
        let way = self.ways.get(1).filter(|way| way.cost < Class::Away.cost())?;
        let names = names(self.nodes_of(way).map(|it| it.node.name()));
        let what: Vec<String> = way
            .obstacles
            .iter()
            .map(|class| match class {
                Class::GpuTaint | Class::OtherTaint | Class::Away => {
                    let taints: Vec<String> =
                        self.taints(way).into_keys().map(|it| format!("`{it}`")).collect();
                    format!("a toleration of {}", taints.join(" and "))
                }
                Class::Short | Class::TooLarge => self.lack(way).map_or_else(
                    || "room".to_owned(),
                    |it| format!("{} of `{}` free", amount(&it.resource, it.wanted), it.resource),
                ),
                Class::Placement => "other node labels or affinity".to_owned(),
                Class::Port => "another host port".to_owned(),
                Class::Volume => "its volume".to_owned(),
                Class::Peers => "other pod affinity or spreading".to_owned(),
            })
            .collect();
        Some(format!("otherwise: {} on {names}", what.join(" and ")))
    }
}

/// Pods to move so that one node gets enough free.
pub(crate) struct Plan<'a> {
    pub(crate) node: &'a str,
    /// What is free there afterwards.
    pub(crate) freed: Quantity,
    /// Pod, how much it holds, where it fits.
    pub(crate) moves: Vec<(Object<'a>, Quantity, &'a str)>,
}

/// Most pods of a plan: who moves more had better drain a node.
const MOST_MOVES: usize = 3;

/// The plan with the fewest moves that lets the pod in, looking at nodes that only lack the resource.
pub(crate) fn plan<'a>(
    view: &View<'a>,
    pending: &Pending<'a>,
    lack: &Lack<'_, 'a>,
) -> Option<Plan<'a>> {
    let candidates = lack.nodes.iter().filter(|(node, _)| {
        node.allocatable.get(lack.resource.as_str()).is_some_and(|all| *all >= lack.wanted)
    });
    let plans = candidates.filter_map(|(node, _)| plan_for(view, pending, lack, node));
    plans.min_by_key(|plan| (plan.moves.len(), plan.node))
}

fn plan_for<'a>(
    view: &View<'a>,
    pending: &Pending<'a>,
    lack: &Lack<'_, 'a>,
    node: &Node<'a>,
) -> Option<Plan<'a>> {
    let mut space = (*pending.space).clone();
    let held = |pod: &Pod<'a>| pod.requests().get(&lack.resource).copied();
    let mut holders: Vec<(Quantity, Pod<'a>)> = view
        .pods_on(node.name())
        .iter()
        .filter(|pod| !pod.has_ended() && !pod.object.is_ending() && !is_tied(pod))
        .filter_map(|pod| Some((held(pod).filter(|it| !it.is_zero())?, pod.clone())))
        .collect();
    // The smallest that is enough moves first; if none is, the largest.
    holders.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.object.name().cmp(b.1.object.name())));
    let mut moves = Vec::new();
    while moves.len() < MOST_MOVES {
        if space.short(node, &pending.wanted).is_empty() {
            let freed = space.free(node, &lack.resource);
            return Some(Plan { node: node.name(), freed, moves });
        }
        let missing = lack.wanted.plus(space.free(node, &lack.resource).times(-1));
        let enough = holders.iter().position(|(held, _)| *held >= missing);
        let mut order: Vec<usize> = enough.into_iter().collect();
        order.extend((0..holders.len()).rev().filter(|at| Some(*at) != enough));
        let (at, to) = order.into_iter().find_map(|at| {
            let (_, pod) = holders.get(at)?;
            Some((at, place_elsewhere(view, &space, pod, node)?))
        })?;
        let (held, pod) = holders.remove(at);
        space.move_pod(&pod.requests(), node.name(), to);
        moves.push((pod.object, held, to));
    }
    space.short(node, &pending.wanted).is_empty().then(|| Plan {
        node: node.name(),
        freed: space.free(node, &lack.resource),
        moves,
    })
}

/// Pods that come back to the same node.
fn is_tied(pod: &Pod<'_>) -> bool {
    pod.object.controller().is_none_or(|owner| matches!(owner.kind.as_str(), "DaemonSet" | "Node"))
}

fn place_elsewhere<'a>(
    view: &View<'a>,
    space: &Space<'a>,
    pod: &Pod<'a>,
    from: &Node<'a>,
) -> Option<&'a str> {
    let wanted = pod.requests();
    let others = view.nodes().iter().filter(|node| node.name() != from.name());
    let takes = |node: &&Node<'a>| obstacles(view, space, pod, &wanted, node).is_empty();
    others.filter(takes).map(Node::name).next()
}

/// `a`, `b` and 3 more.
pub(crate) fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let all: Vec<String> = all.map(|name| format!("`{name}`")).collect();
    let rest = all.len().saturating_sub(SHOWN);
    let shown = all.get(..SHOWN.min(all.len())).unwrap_or_default().join(", ");
    if rest == 0 { shown } else { format!("{shown} and {rest} more") }
}

/// `1 node`, `3 nodes`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// An amount as people say it: bytes for memory, cores for CPU, else a number.
pub(crate) fn amount(resource: &str, amount: Quantity) -> String {
    let is_bytes =
        resource == "memory" || resource.starts_with("hugepages-") || resource.ends_with("storage");
    if is_bytes { amount.to_string() } else { format!("{}", amount.as_f64()) }
}
