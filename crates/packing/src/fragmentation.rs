//! How much of a node's idle GPUs the coming workload cannot use.
//!
//! The measure is that of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads
//! with Fragmentation Gradient Descent", USENIX ATC 2023. A node that cannot host a shape has all
//! its idle GPUs as fragments for it; one that can has those parts of GPUs that are each too small.
//! The fragmentation of a node is the mean over the shapes of the target workload; the idle GPUs of
//! a node are fragments in full for pods without GPU.

use crate::node::Node;
use crate::request::{GpuRequest, Model, WHOLE_GPU};
use crate::target::TargetWorkload;

/// Measures fragmentation against one target workload.
///
/// Shapes that ask the same of GPUs differ only in the cores they need, and in the models that will
/// do. So for each model, and each amount of cores that makes a difference, the probability that a
/// pod comes which such a node could host is summed up beforehand.
#[derive(Clone, Debug)]
pub struct Fragmentation {
    /// Amounts of cores that shapes ask for, ascending.
    cores: Vec<u32>,
    /// What shapes ask of GPUs.
    requests: Vec<GpuRequest>,
    /// For each model and "none", for each number of `cores` that suffice, for each of `requests`:
    /// the probability of shapes that need no more cores and accept the model.
    probability: Vec<f64>,
    /// 1, or 0 for a workload of nothing.
    total: f64,
    models: usize,
}

impl Fragmentation {
    /// Prepares for a target workload; `models` is how many models there are.
    pub fn new(target: &TargetWorkload, models: usize) -> Self {
        let asks_gpu = || target.shapes().iter().filter(|shape| shape.gpu != GpuRequest::None);
        let mut cores: Vec<u32> = asks_gpu().map(|shape| shape.cpu_milli).collect();
        cores.sort_unstable();
        cores.dedup();
        let mut requests: Vec<GpuRequest> = asks_gpu().map(|shape| shape.gpu).collect();
        requests.sort_unstable();
        requests.dedup();
        let mut probability = Vec::new();
        for model in 0..=models {
            let model = (model < models)
                .then(|| Model(u8::try_from(model).expect("fewer than MAX_MODELS")));
            for suffice in 0..=cores.len() {
                let most = suffice.checked_sub(1).and_then(|at| cores.get(at)).copied();
                probability.extend(requests.iter().map(|gpu| -> f64 {
                    asks_gpu()
                        .filter(|it| it.gpu == *gpu && it.models.allows(model))
                        .filter(|it| most.is_some_and(|most| it.cpu_milli <= most))
                        .map(|it| it.probability)
                        .sum()
                }));
            }
        }
        let total = target.shapes().iter().map(|shape| shape.probability).sum();
        Self { cores, requests, probability, total, models }
    }

    /// The expected fragments of a node, in thousandths of a GPU.
    pub fn of(&self, node: &Node) -> f64 {
        let model = node.capacity().model.map_or(self.models, |it| usize::from(it.0));
        let suffice = self.cores.partition_point(|cores| *cores <= node.cpu_left);
        let row = (model * (self.cores.len() + 1) + suffice) * self.requests.len();
        let row = self.probability.get(row..).unwrap_or_default();
        let mut usable = 0.0;
        for (gpu, probability) in self.requests.iter().zip(row) {
            if *probability > 0.0 {
                usable += probability * f64::from(usable_by(node, *gpu));
            }
        }
        self.total * f64::from(node.gpu_left()) - usable
    }
}

/// What a request could use of a node's idle GPUs, by GPUs alone, in thousandths.
fn usable_by(node: &Node, gpu: GpuRequest) -> u32 {
    match gpu {
        GpuRequest::None => 0,
        GpuRequest::Share(milli) => {
            node.gpu_left.iter().map(|left| if *left >= milli { u32::from(*left) } else { 0 }).sum()
        }
        GpuRequest::Whole(count) => match node.free_gpus() {
            free if free >= count => u32::from(free) * u32::from(WHOLE_GPU),
            _ => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::{Capacity, Devices};
    use crate::request::{ModelSet, Request};

    /// The definition, word for word.
    fn plain(target: &TargetWorkload, node: &Node) -> f64 {
        let mut sum = 0.0;
        for shape in target.shapes() {
            let hosts = shape.gpu != GpuRequest::None
                && shape.cpu_milli <= node.cpu_left
                && shape.models.allows(node.capacity().model)
                && node.has_gpus(shape.gpu);
            let fragments: u32 = if hosts {
                let too_small = node.gpus_left().iter().filter(|it| **it < shape.gpu.per_gpu());
                too_small.map(|left| u32::from(*left)).sum()
            } else {
                node.gpu_left()
            };
            sum += shape.probability * f64::from(fragments);
        }
        sum
    }

    fn gpu_requests() -> impl Strategy<Value = GpuRequest> {
        prop_oneof![
            Just(GpuRequest::None),
            (1u16..10).prop_map(|tenths| GpuRequest::Share(tenths * 100)),
            (1u8..=4).prop_map(GpuRequest::Whole),
        ]
    }

    fn requests() -> impl Strategy<Value = Request> {
        let models = prop_oneof![
            Just(ModelSet::ANY),
            (0u8..3).prop_map(|it| ModelSet::EMPTY.with(Model(it))),
        ];
        (0u32..6, gpu_requests(), models).prop_map(|(cores, gpu, models)| Request {
            cpu_milli: cores * 1000,
            memory_mib: 0,
            gpu,
            models,
        })
    }

    proptest! {
        #[test]
        fn sums_made_beforehand_agree_with_the_definition(
            workload in prop::collection::vec(requests(), 0..40),
            placed in prop::collection::vec(requests(), 0..8),
            model in prop::option::of(0u8..3),
        ) {
            let target = TargetWorkload::of(&workload);
            let capacity =
                Capacity { cpu_milli: 8000, memory_mib: 0, gpus: 4, model: model.map(Model) };
            let mut node = Node::empty(capacity);
            for pod in &placed {
                let devices = node.tightest(pod.gpu).unwrap_or(Devices(0));
                node = node.with(pod, devices).unwrap_or(node);
            }
            let fast = Fragmentation::new(&target, 3).of(&node);
            prop_assert!((fast - plain(&target, &node)).abs() < 1e-6);
            prop_assert!(fast >= -1e-6 && fast <= f64::from(node.gpu_left()) + 1e-6);
        }
    }
}
