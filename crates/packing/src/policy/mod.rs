//! Which node a pod should go to, and to which of its GPUs. One file a policy, and one line here.
//!
//! The scores of known policies are those of the simulator of the FGD paper
//! (github.com/hkust-adsl/kubernetes-scheduler-simulator, 8f3d6417), with its whole-number steps,
//! so that its results can be reproduced.

mod best_fit;
mod dot_product;
mod fgd;
mod gpu_clustering;
mod gpu_packing;
mod least_stranding;
mod random;

use std::fmt;
use std::str::FromStr;

use crate::fragmentation::Fragmentation;
use crate::node::{Devices, Node};
use crate::request::{GpuRequest, Request};
use crate::target::TargetWorkload;

/// A policy of placing pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// The first node with room.
    FirstFit,
    /// The node of which least is left, cores and GPUs weighted alike.
    BestFit,
    /// The node of which most is left, by the same measure.
    WorstFit,
    /// Any node with room, and any of its GPUs.
    Random,
    /// The node whose rest points least into the direction of the request.
    DotProduct,
    /// GPUs in use first, then free GPUs of nodes in use, then free nodes.
    GpuPacking,
    /// Nodes where pods run that take the same of GPUs.
    GpuClustering,
    /// Fragmentation gradient descent: where the expected fragments grow least.
    Fgd,
    /// Ours: where least becomes stranded, counting how many pods of a shape fit, not whether one does.
    LeastStranding,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::FirstFit,
        Self::BestFit,
        Self::WorstFit,
        Self::Random,
        Self::DotProduct,
        Self::GpuPacking,
        Self::GpuClustering,
        Self::Fgd,
        Self::LeastStranding,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstFit => "first-fit",
            Self::BestFit => "best-fit",
            Self::WorstFit => "worst-fit",
            Self::Random => "random",
            Self::DotProduct => "dot-product",
            Self::GpuPacking => "gpu-packing",
            Self::GpuClustering => "gpu-clustering",
            Self::Fgd => "fgd",
            Self::LeastStranding => "least-stranding",
        }
    }

    /// Prepares to score nodes for pods of a workload like `target`.
    pub(crate) fn scorer(self, target: &TargetWorkload, models: usize) -> Box<dyn Scorer> {
        match self {
            Self::FirstFit => Box::new(FirstFit),
            Self::BestFit => Box::new(best_fit::BestFit),
            Self::WorstFit => Box::new(best_fit::WorstFit),
            Self::Random => Box::new(random::Random),
            Self::DotProduct => Box::new(dot_product::DotProduct),
            Self::GpuPacking => Box::new(gpu_packing::GpuPacking),
            Self::GpuClustering => Box::new(gpu_clustering::GpuClustering),
            Self::Fgd => Box::new(fgd::Fgd::new(Fragmentation::new(target, models))),
            Self::LeastStranding => Box::new(least_stranding::LeastStranding::new(target, models)),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No policy has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no policy; there are {}", Policy::ALL.map(Policy::name).join(", "))]
pub struct UnknownPolicy {
    name: String,
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| UnknownPolicy { name: name.to_owned() })
    }
}

/// Higher is better.
pub(crate) type Score = i64;

/// Judges one node for one request.
pub(crate) trait Scorer: fmt::Debug {
    /// How good it is to place the request on a node that has room for it. It follows from the two
    /// values alone, so that it holds until the node changes.
    fn score(&self, node: &Node, request: &Request) -> Score;

    /// The GPUs that it takes of the node that was chosen.
    fn devices(&self, node: &Node, request: &Request, _rng: &mut fastrand::Rng) -> Option<Devices> {
        node.tightest(request.gpu)
    }

    /// Whether chance decides among nodes with the best score, rather than their order.
    fn is_random(&self) -> bool {
        false
    }
}

/// The GPUs of a node that score best for a request, where the score depends on what is left of
/// each.
fn best_devices(
    node: &Node,
    request: &Request,
    score: impl Fn(Devices) -> Option<Score>,
) -> Option<(Score, Devices)> {
    let GpuRequest::Share(milli) = request.gpu else {
        let devices = node.tightest(request.gpu)?;
        return Some((score(devices)?, devices));
    };
    let mut best: Option<(Score, Devices)> = None;
    for (index, left) in node.gpus_left().iter().enumerate() {
        // GPUs with as much left are as good: the first one stands for them.
        let seen = || node.gpus_left().iter().take(index).any(|earlier| earlier == left);
        if *left < milli || seen() {
            continue;
        }
        let score = score(Devices::one(index))?;
        if best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, Devices::one(index)));
        }
    }
    best
}

#[derive(Debug)]
struct FirstFit;

impl Scorer for FirstFit {
    fn score(&self, _: &Node, _: &Request) -> Score {
        0
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use crate::node::{Capacity, Devices, Node};
    use crate::request::{GpuRequest, ModelSet, Request};

    pub(crate) fn request(cores: u32, gpu: GpuRequest) -> Request {
        Request { cpu_milli: cores * 1000, memory_mib: 0, gpu, models: ModelSet::ANY }
    }

    /// A node with so many cores, these parts left of its GPUs.
    pub(crate) fn node(cores: u32, left: &[u16]) -> Node {
        let gpus = u8::try_from(left.len()).expect("few");
        let capacity = Capacity { cpu_milli: cores * 1000, memory_mib: 1 << 20, gpus, model: None };
        let mut node = Node::empty(capacity);
        for (index, left) in left.iter().enumerate() {
            let gpu = match left {
                0 => GpuRequest::Whole(1),
                1000 => continue,
                left => GpuRequest::Share(1000 - left),
            };
            node = node.with(&request(0, gpu), Devices::one(index)).expect("room");
        }
        node
    }
}

#[test]
fn names_are_read_back() {
    for policy in Policy::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    let error = "fdg".parse::<Policy>().expect_err("no policy");
    assert!(error.to_string().starts_with("`fdg` is no policy; there are first-fit, best-fit"));
}
