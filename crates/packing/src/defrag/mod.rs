//! Which few pods to move so that pods that wait, or that usually come, find room.
//!
//! In: nodes with what runs there, pods that wait, and who may go where. Out: a [`Proposal`]: moves
//! that work one after the other, and what they free. First each pod that waits and fits nowhere gets
//! the node that takes the fewest moves. Then, while moves are left, room is made for one more pod of
//! a usual shape where that lets the workload use most GPUs more, by FGD's measure of fragments. Pods
//! that move go where the policy puts them.

mod search;

use std::sync::Arc;

use serde::Serialize;

use crate::node::Node;
use crate::policy::Policy;
use crate::request::{GpuRequest, Request};
use crate::target::TargetWorkload;

pub(crate) use search::Search;

/// Nodes by their index: those where a pod may run by all rules but room.
pub type Welcome = Arc<[bool]>;

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Empty.
    pub node: Node,
    /// What it has of resources that are neither cores, memory nor GPUs, in an order that all share.
    pub others: Vec<u64>,
    /// Whether it takes pods.
    pub is_open: bool,
}

/// A pod that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// What it has.
    pub request: Request,
    /// What it has of the other resources, in the order of [`Site::others`].
    pub others: Vec<u64>,
    /// Index of its node.
    pub site: usize,
    /// Where it may go; `None` where it has to stay.
    pub may_go: Option<Welcome>,
    /// Each move takes one from each of these budgets.
    pub budgets: Vec<usize>,
}

/// Where a policy would put pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preferred {
    /// Nodes in the order in which it takes them; then those that it would take if all these were
    /// full already.
    pub sites: Vec<usize>,
    /// How many of the pods have room.
    pub placed: u32,
    /// GPUs of the open nodes that are left then.
    pub idle: f64,
}

/// A pod that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Newcomer {
    /// What it asks for.
    pub request: Request,
    /// What it asks for of the other resources, in the order of [`Site::others`].
    pub others: Vec<u64>,
    /// Where it may run.
    pub may_go: Welcome,
    /// Those of one gang follow one another, and start together or not at all.
    pub gang: Option<usize>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Defrag<'a> {
    /// The nodes.
    pub sites: &'a [Site],
    /// The pods that run.
    pub tenants: &'a [Tenant],
    /// The pods that wait, those that come first in front.
    pub newcomers: &'a [Newcomer],
    /// How many moves each budget allows.
    pub budgets: &'a [u32],
    /// How many GPU models there are.
    pub models: usize,
    /// Where pods go.
    pub policy: Policy,
    /// The most moves that are proposed.
    pub most_moves: usize,
}

/// What a move is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// This pod that waits.
    Newcomer(usize),
    /// One more pod of this usual shape.
    Shape(usize),
}

/// One pod that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Index of the pod.
    pub tenant: usize,
    /// Index of its node.
    pub from: usize,
    /// Index of the node that has room for it, after the moves before this one.
    pub to: usize,
    /// What it is for.
    pub purpose: Purpose,
}

/// What becomes of a pod that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This node has room as it is.
    Fits(usize),
    /// This node has room after moves.
    FitsAfterMoves(usize),
    /// No few moves make room, or not for its whole gang.
    NoRoom,
    /// No node may have it, or would have room if it were empty.
    Nowhere,
}

/// A shape of pods that usually come, with what it is worth to make room for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsualShape {
    /// What such a pod asks for: of memory as much as most.
    pub request: Request,
    /// The part of pods with GPUs that have this shape.
    pub part: f64,
    /// How many such pods alone would fit now.
    pub fit_before: u64,
    /// How many would fit after the moves. As before them, those who wait have not come.
    pub fit_after: u64,
}

/// GPUs before or after, in GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IdleGpus {
    /// Of which nobody has a part.
    pub idle: f64,
    /// The part of these that the usual workload cannot use, by FGD's measure.
    pub fragmented: f64,
}

/// What to do, and what comes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// In an order that works.
    pub moves: Vec<Move>,
    /// What becomes of each pod that waits.
    pub outcomes: Vec<Outcome>,
    /// The usual shapes, the most frequent first.
    pub shapes: Vec<UsualShape>,
    /// GPUs as they are.
    pub before: IdleGpus,
    /// GPUs after the moves, without the pods that wait.
    pub after: IdleGpus,
    /// Nodes on which more runs than they have, by these figures; nothing is proposed for them.
    pub overfull: Vec<usize>,
}

/// The most usual shapes that room is made for.
const MOST_SHAPES: usize = 8;

impl Defrag<'_> {
    /// Looks for moves.
    pub fn propose(&self) -> Proposal {
        let target = self.target();
        let shapes = self.usual(&target);
        Search::new(self, &target).propose(shapes)
    }

    /// The nodes that take pods, with what runs there. Those on which more runs than they have are
    /// left out.
    pub fn nodes(&self) -> Vec<Node> {
        Search::new(self, &TargetWorkload::default()).open_nodes()
    }

    /// Where the policy would put so many pods like one that waits. `None` where there is no such pod.
    pub fn prefer(&self, newcomer: usize, count: u32) -> Option<Preferred> {
        let newcomer = self.newcomers.get(newcomer)?;
        Some(Search::new(self, &self.target()).prefer(newcomer, count))
    }

    /// What runs and waits and asks for GPUs, as the workload that comes.
    fn target(&self) -> TargetWorkload {
        TargetWorkload::of(self.requests().filter(|request| request.gpu != GpuRequest::None))
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        let running = self.tenants.iter().map(|tenant| &tenant.request);
        running.chain(self.newcomers.iter().map(|newcomer| &newcomer.request))
    }

    fn usual(&self, target: &TargetWorkload) -> Vec<UsualShape> {
        let shapes = target.shapes().iter().take(MOST_SHAPES);
        shapes
            .map(|shape| {
                let is_alike = |it: &&Request| {
                    (it.cpu_milli, it.gpu, it.models) == (shape.cpu_milli, shape.gpu, shape.models)
                };
                let mut memory: Vec<u32> =
                    self.requests().filter(is_alike).map(|it| it.memory_mib).collect();
                memory.sort_unstable();
                let request = Request {
                    cpu_milli: shape.cpu_milli,
                    memory_mib: memory.get(memory.len() / 2).copied().unwrap_or(0),
                    gpu: shape.gpu,
                    models: shape.models,
                };
                UsualShape { request, part: shape.probability, fit_before: 0, fit_after: 0 }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
