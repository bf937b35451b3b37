//! Places pods on the nodes of a cluster by a policy, and takes them away again.
//!
//! A score follows from the node and the request alone. So for each request that came the scores of
//! all nodes are kept, and when it comes again only nodes that changed meanwhile are judged anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::{Devices, Node};
use crate::policy::{Policy, Score, Scorer};
use crate::request::Request;
use crate::target::TargetWorkload;

/// Scores that are kept at most, of all requests together (16 bytes each). A workload of more
/// different requests is scored anew more often.
const MOST_SCORES: usize = 16 << 20;

/// Where a pod runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Index of the node.
    pub node: usize,
    /// Its GPUs, of which the pod has a part or all.
    pub devices: Devices,
}

/// Which of the nodes with the best score a pod gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ties {
    /// The first; what the simulator's figures are of.
    First,
    /// The one with the least of GPUs left. Whole GPUs are worth the same to some policies wherever
    /// they are.
    Fullest,
}

/// The scores of all nodes for one request.
#[derive(Debug)]
struct Scores {
    /// `None` where there is no room.
    of_node: Vec<Option<Score>>,
    /// Changes of nodes that are looked at: those before this one.
    seen: usize,
}

/// A cluster, and a policy that places pods on it.
#[derive(Debug)]
pub struct Scheduler {
    nodes: Vec<Node>,
    scorer: Box<dyn Scorer>,
    scores: BTreeMap<Request, Scores>,
    /// The nodes that changed, in order.
    changes: Vec<usize>,
    /// For each node the number of changes when it last changed.
    changed_at: Vec<usize>,
    /// Nodes that take no pods.
    closed: BTreeSet<usize>,
    ties: Ties,
    rng: fastrand::Rng,
}

impl Scheduler {
    /// A scheduler over these nodes. `models` is how many GPU models there are; the seed matters to
    /// policies that leave something to chance.
    pub fn new(
        nodes: Vec<Node>,
        models: usize,
        policy: Policy,
        target: &TargetWorkload,
        seed: u64,
    ) -> Self {
        Self {
            changed_at: vec![0; nodes.len()],
            nodes,
            scorer: policy.scorer(target, models),
            scores: BTreeMap::new(),
            changes: Vec::new(),
            closed: BTreeSet::new(),
            ties: Ties::First,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// From now on a pod gets, of the nodes with the best score, the one with the least of GPUs left.
    pub fn break_ties_by_fullness(&mut self) {
        self.ties = Ties::Fullest;
    }

    /// The nodes as they are.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Places a pod. `None` where no node has room for it.
    pub fn place(&mut self, request: &Request) -> Option<Placement> {
        self.place_where(request, |_| true)
    }

    /// Places a pod on one of some nodes, which are told by their index.
    pub fn place_where(
        &mut self,
        request: &Request,
        may: impl Fn(usize) -> bool,
    ) -> Option<Placement> {
        let at = self.best_node(request, may)?;
        self.place_on(request, at)
    }

    /// Places a pod on one node, open or not. `None` where there is no room.
    pub fn place_on(&mut self, request: &Request, at: usize) -> Option<Placement> {
        let node = self.nodes.get(at).filter(|node| node.fits(request))?;
        let devices = self.scorer.devices(node, request, &mut self.rng)?;
        let placement = Placement { node: at, devices };
        self.put(request, placement).then_some(placement)
    }

    /// Puts a pod to where it was before; false where there is no room for it.
    pub fn put(&mut self, request: &Request, placement: Placement) -> bool {
        let before = self.nodes.get(placement.node);
        let after = before.and_then(|node| node.with(request, placement.devices));
        if let Some(after) = after {
            self.change(placement.node, after);
        }
        after.is_some()
    }

    /// Takes a pod away from where it was placed; does nothing where it cannot have been.
    pub fn remove(&mut self, request: &Request, placement: Placement) {
        let before = self.nodes.get(placement.node);
        if let Some(after) = before.and_then(|node| node.without(request, placement.devices)) {
            self.change(placement.node, after);
        }
    }

    /// Says whether a node takes pods; what runs there is left alone.
    pub fn set_open(&mut self, node: usize, is_open: bool) {
        if is_open {
            self.closed.remove(&node);
        } else {
            self.closed.insert(node);
        }
    }

    fn change(&mut self, at: usize, after: Node) {
        self.changes.push(at);
        if let (Some(node), Some(changed)) = (self.nodes.get_mut(at), self.changed_at.get_mut(at)) {
            *node = after;
            *changed = self.changes.len();
        }
    }

    /// The node with the highest score; of equals the first, or any where the policy is random.
    fn best_node(&mut self, request: &Request, may: impl Fn(usize) -> bool) -> Option<usize> {
        self.update_scores(request);
        let scores = self.scores.get(request)?.of_node.iter().enumerate();
        let mut best: Option<(Score, usize)> = None;
        let mut equals = 0;
        for (at, score) in scores {
            let is_open = |at| !self.closed.contains(&at) && may(at);
            let Some(score) = score.filter(|_| is_open(at)) else { continue };
            match best {
                Some((highest, _)) if score < highest => {}
                Some((highest, chosen)) if score == highest => {
                    equals += 1;
                    let left = |at: usize| self.nodes.get(at).map(Node::gpu_left);
                    let is_fuller = || self.ties == Ties::Fullest && left(at) < left(chosen);
                    let is_chosen = match self.scorer.is_random() {
                        true => self.rng.usize(..equals) == 0,
                        false => is_fuller(),
                    };
                    if is_chosen {
                        best = Some((score, at));
                    }
                }
                _ => {
                    equals = 1;
                    best = Some((score, at));
                }
            }
        }
        best.map(|(_, at)| at)
    }

    fn update_scores(&mut self, request: &Request) {
        let score = |node: &Node| node.fits(request).then(|| self.scorer.score(node, request));
        if let Some(scores) = self.scores.get_mut(request) {
            let unseen = self.changes.get(scores.seen..).unwrap_or_default();
            for (at, node) in (scores.seen + 1..).zip(unseen) {
                // Only its last change counts.
                if self.changed_at.get(*node) == Some(&at)
                    && let (Some(kept), Some(node)) =
                        (scores.of_node.get_mut(*node), self.nodes.get(*node))
                {
                    *kept = score(node);
                }
            }
            scores.seen = self.changes.len();
            return;
        }
        if (self.scores.len() + 1).saturating_mul(self.nodes.len()) > MOST_SCORES {
            self.scores.clear();
        }
        // Many nodes are alike at the start; one that is like the one before it is as good.
        let mut of_node = Vec::with_capacity(self.nodes.len());
        let mut last: Option<(&Node, Option<Score>)> = None;
        for node in &self.nodes {
            let score = match last {
                Some((like, score)) if like == node => score,
                _ => score(node),
            };
            last = Some((node, score));
            of_node.push(score);
        }
        self.scores.insert(*request, Scores { of_node, seen: self.changes.len() });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::Capacity;
    use crate::request::{GpuRequest, ModelSet};

    fn requests() -> impl Strategy<Value = Request> {
        let gpu = prop_oneof![
            Just(GpuRequest::None),
            (1u16..5).prop_map(|fifths| GpuRequest::Share(fifths * 200)),
            (1u8..=2).prop_map(GpuRequest::Whole),
        ];
        (1u32..5, gpu).prop_map(|(cores, gpu)| Request {
            cpu_milli: cores * 1000,
            memory_mib: 1,
            gpu,
            models: ModelSet::ANY,
        })
    }

    /// Judges all nodes anew.
    fn plain(scheduler: &Scheduler, request: &Request) -> Option<usize> {
        let scored = scheduler.nodes.iter().enumerate().filter(|(_, node)| node.fits(request));
        let scored = scored.map(|(at, node)| (scheduler.scorer.score(node, request), at));
        scored.max_by_key(|(score, at)| (*score, std::cmp::Reverse(*at))).map(|(_, at)| at)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn kept_scores_are_those_of_now(
            steps in prop::collection::vec((requests(), any::<bool>()), 1..60),
        ) {
            let workload: Vec<Request> = steps.iter().map(|it| it.0).collect();
            let target = TargetWorkload::of(&workload);
            for policy in Policy::ALL.into_iter().filter(|policy| *policy != Policy::Random) {
                let kind = |gpus| {
                    Node::empty(Capacity { cpu_milli: 8000, memory_mib: 99, gpus, model: None })
                };
                let nodes = vec![kind(2), kind(2), kind(1), kind(0), kind(4)];
                let mut scheduler = Scheduler::new(nodes.clone(), 0, policy, &target, 0);
                let mut running = Vec::new();
                for (request, leaves) in &steps {
                    let expected = plain(&scheduler, request);
                    let placed = scheduler.place(request);
                    prop_assert_eq!(placed.map(|it| it.node), expected, "{}", policy);
                    running.extend(placed.map(|it| (*request, it)));
                    if *leaves && let Some((request, placement)) = running.pop() {
                        scheduler.remove(&request, placement);
                    }
                }
                for (request, placement) in running {
                    scheduler.remove(&request, placement);
                }
                prop_assert_eq!(scheduler.nodes(), &nodes);
            }
        }
    }

    #[test]
    fn closed_nodes_get_nothing() {
        let capacity = Capacity { cpu_milli: 8000, memory_mib: 99, gpus: 1, model: None };
        let nodes = vec![Node::empty(capacity); 2];
        let pod = Request {
            cpu_milli: 1,
            memory_mib: 0,
            gpu: GpuRequest::Whole(1),
            models: ModelSet::ANY,
        };
        let mut scheduler =
            Scheduler::new(nodes, 0, Policy::FirstFit, &TargetWorkload::default(), 0);
        scheduler.set_open(0, false);
        assert_eq!(scheduler.place(&pod).map(|it| it.node), Some(1));
        assert_eq!(scheduler.place(&pod), None);
        scheduler.set_open(0, true);
        assert_eq!(scheduler.place(&pod).map(|it| it.node), Some(0));
    }

    #[test]
    fn chance_reaches_every_node() {
        let capacity = Capacity { cpu_milli: 8000, memory_mib: 99, gpus: 2, model: None };
        let pod = Request {
            cpu_milli: 0,
            memory_mib: 0,
            gpu: GpuRequest::Share(100),
            models: ModelSet::ANY,
        };
        let nodes = vec![Node::empty(capacity); 3];
        let mut scheduler = Scheduler::new(nodes, 0, Policy::Random, &TargetWorkload::default(), 3);
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.extend(scheduler.place(&pod).map(|it| (it.node, it.devices)));
        }
        assert_eq!(seen.len(), 6);
    }
}
