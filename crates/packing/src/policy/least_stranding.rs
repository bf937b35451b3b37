//! Least stranding: a pod goes where it takes least of what pods to come would use.
//!
//! FGD asks for each shape whether a node could host *one* pod of it, and calls all idle GPUs of a
//! node usable then. It does not see that cores for one pod are not cores for eight, nor that a hole
//! of 0.19 GPUs next to a pod with 0.81 stays empty although some rare shape would fit. Here
//!
//! - a GPU with `r` left is worth what the first pod shape to come that fits would make use of, as
//!   often as it fits: `W(r) = E[⌊r/m⌋·m | m fits] · (1 − exp(−P(fits)/κ))`, by the target workload,
//!   for shapes that the node's model and cores allow;
//! - a node is worth the sum of its GPUs, and no more than what its cores can serve at the
//!   workload's mean of cores per GPU;
//! - a pod goes where the worth falls least.
//!
//! Three lookups and a sum make a score, where FGD has a sum over shapes.

use super::{Score, Scorer, best_devices};
use crate::node::{Devices, Node};
use crate::request::{GpuRequest, Model, Request, WHOLE_GPU};
use crate::target::TargetWorkload;

/// κ: shapes that are together this part of all GPU pods fill a hole in the end with probability
/// 1 − 1/e. Of 0.005, 0.01, 0.02 and 0.03 the best on the traces default, cpu100, gpushare60 and
/// multigpu20.
const RARE: f64 = 0.02;

/// Amounts that may be left of a GPU: 0 to [`WHOLE_GPU`].
const AMOUNTS: usize = WHOLE_GPU as usize + 1;

#[derive(Debug)]
pub(super) struct LeastStranding {
    /// Amounts of cores that shapes ask for, ascending.
    cores: Vec<u32>,
    /// For each model and "none", for each number of `cores` that suffice, for each amount that may
    /// be left of a GPU: its worth, in thousandths of a GPU.
    worth: Vec<f32>,
    /// For each model and "none": the thousandths of cores that pods ask for with a thousandth of a
    /// GPU, in the mean of shapes that accept the model.
    cores_per_gpu: Vec<f64>,
}

impl LeastStranding {
    pub(super) fn new(target: &TargetWorkload, models: usize) -> Self {
        let mut shapes: Vec<_> =
            target.shapes().iter().filter(|it| it.gpu != GpuRequest::None).collect();
        shapes.sort_by_key(|shape| shape.cpu_milli);
        let total: f64 = shapes.iter().map(|shape| shape.probability).sum();
        let mut cores: Vec<u32> = shapes.iter().map(|shape| shape.cpu_milli).collect();
        cores.dedup();
        let mut worth = Vec::with_capacity((models + 1) * (cores.len() + 1) * AMOUNTS);
        let mut cores_per_gpu = Vec::with_capacity(models + 1);
        for model in 0..=models {
            let model = (model < models)
                .then(|| Model(u8::try_from(model).expect("fewer than MAX_MODELS")));
            let welcome = || shapes.iter().filter(|shape| shape.models.allows(model));
            // No cores: nothing fits.
            worth.extend([0.0; AMOUNTS]);
            let mut fits = [0.0; AMOUNTS];
            let mut used = [0.0; AMOUNTS];
            for most in &cores {
                for shape in welcome().filter(|shape| shape.cpu_milli == *most) {
                    let asked = usize::from(shape.gpu.per_gpu());
                    let probability = shape.probability / total;
                    for (left, (fits, used)) in fits.iter_mut().zip(&mut used).enumerate() {
                        if left >= asked {
                            *fits += probability;
                            *used += probability * (left - left % asked.max(1)) as f64;
                        }
                    }
                }
                worth.extend(fits.iter().zip(&used).map(|(fits, used): (&f64, &f64)| {
                    match *fits > 0.0 {
                        true => (used / fits * (1.0 - (-fits / RARE).exp())) as f32,
                        false => 0.0,
                    }
                }));
            }
            let sum = |of: fn(&crate::target::Shape) -> u32| -> f64 {
                welcome().map(|shape| shape.probability * f64::from(of(shape))).sum()
            };
            let gpus = sum(|shape| shape.gpu.milli());
            cores_per_gpu.push(if gpus > 0.0 { sum(|shape| shape.cpu_milli) / gpus } else { 0.0 });
        }
        Self { cores, worth, cores_per_gpu }
    }

    /// What of a node's idle GPUs pods to come will use, in thousandths of a GPU.
    fn worth(&self, node: &Node) -> f64 {
        let none = self.cores_per_gpu.len() - 1;
        let model = node.capacity().model.map_or(none, |it| usize::from(it.0));
        let suffice = self.cores.partition_point(|cores| *cores <= node.cpu_left);
        let row = (model * (self.cores.len() + 1) + suffice) * AMOUNTS;
        let row = self.worth.get(row..).unwrap_or_default();
        let by_gpus: f64 = node
            .gpus_left()
            .iter()
            .filter_map(|left| row.get(usize::from(*left)))
            .map(|worth| f64::from(*worth))
            .sum();
        match self.cores_per_gpu.get(model) {
            Some(per_gpu) if *per_gpu > 0.0 => by_gpus.min(f64::from(node.cpu_left) / per_gpu),
            _ => by_gpus,
        }
    }

    /// The best score, and the GPUs that have it.
    fn best(&self, node: &Node, request: &Request) -> Option<(Score, Devices)> {
        let before = self.worth(node);
        let score = |devices: Devices| -> Option<Score> {
            let lost = before - self.worth(&node.with(request, devices)?);
            // In millionths of a GPU, so that equal is equal whatever was added in which order.
            Some((-lost * 1000.0).round() as Score)
        };
        best_devices(node, request, score)
    }
}

impl Scorer for LeastStranding {
    fn score(&self, node: &Node, request: &Request) -> Score {
        self.best(node, request).map_or(0, |(score, _)| score)
    }

    fn devices(&self, node: &Node, request: &Request, _: &mut fastrand::Rng) -> Option<Devices> {
        self.best(node, request).map(|(_, devices)| devices)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, request};
    use super::*;
    use crate::request::GpuRequest::{None, Share, Whole};

    fn policy(workload: &[(usize, Request)]) -> LeastStranding {
        let pods: Vec<Request> =
            workload.iter().flat_map(|(count, pod)| vec![*pod; *count]).collect();
        LeastStranding::new(&TargetWorkload::of(&pods), 0)
    }

    #[test]
    fn worth_is_what_will_be_used() {
        let policy = policy(&[(50, request(4, Share(810))), (50, request(4, Share(400)))]);
        #[track_caller]
        fn check(policy: &LeastStranding, cores: u32, left: &[u16], expected: f64) {
            let worth = policy.worth(&node(cores, left));
            assert!((worth - expected).abs() < 0.01, "{worth}");
        }
        check(&policy, 64, &[1000], (810.0 + 800.0) / 2.0);
        check(&policy, 64, &[809, 399], 800.0);
        check(&policy, 64, &[500, 500], 800.0);
        // Too few cores for anyone, and for more than one.
        check(&policy, 3, &[1000], 0.0);
        check(&policy, 4, &[1000, 1000], 4000.0 / (4000.0 / 605.0));
    }

    #[test]
    fn what_rarely_fits_is_worth_little() {
        let mut workload = vec![(94, request(1, Share(810))), (1, request(9, Share(190)))];
        workload.extend((1..6).map(|at| (1, request(1, Share(900 + at)))));
        let hole = policy(&workload).worth(&node(64, &[190]));
        assert!(hole > 0.0 && hole < 95.0, "{hole}");
    }

    #[test]
    fn pods_without_gpu_go_where_cores_are_plenty() {
        let policy = policy(&[(1, request(12, Whole(1)))]);
        let pod = request(12, None);
        let plenty = policy.score(&node(104, &[1000, 1000]), &pod);
        let scarce = policy.score(&node(24, &[1000, 1000]), &pod);
        assert!(plenty > scarce && plenty == 0);
        // And best where no GPU is left to strand.
        assert_eq!(policy.score(&node(12, &[0, 0]), &pod), 0);
    }

    #[test]
    fn a_share_fills_a_hole_that_nobody_else_can_use() {
        let policy = policy(&[(60, request(4, Share(810))), (40, request(4, Share(400)))]);
        let open = node(64, &[1000, 390]);
        let pod = request(4, Share(300));
        let devices = policy.devices(&open, &pod, &mut fastrand::Rng::with_seed(0));
        assert_eq!(devices, Some(Devices::one(1)));
        assert!(policy.score(&open, &pod) > policy.score(&node(64, &[1000, 1000]), &pod));
    }
}
