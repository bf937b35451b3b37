//! Fragmentation gradient descent: a pod goes where the expected fragments grow least.
//!
//! Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
//! Gradient Descent", USENIX ATC 2023. As in its authors' simulator, the change is squeezed onto
//! whole numbers from 0 to 100, so that changes of less than about a twentieth of a GPU are equal.

use super::{Score, Scorer, best_devices};
use crate::fragmentation::Fragmentation;
use crate::node::{Devices, Node};
use crate::request::Request;

#[derive(Debug)]
pub(super) struct Fgd {
    fragmentation: Fragmentation,
}

impl Fgd {
    pub(super) fn new(fragmentation: Fragmentation) -> Self {
        Self { fragmentation }
    }

    /// The best score, and the GPUs that have it.
    fn best(&self, node: &Node, request: &Request) -> Option<(Score, Devices)> {
        let before = self.fragmentation.of(node);
        let score = |devices: Devices| -> Option<Score> {
            let after = self.fragmentation.of(&node.with(request, devices)?);
            let fallen = (before - after) / 1000.0;
            Some((100.0 / (1.0 + (-fallen).exp())) as Score)
        };
        best_devices(node, request, score)
    }
}

impl Scorer for Fgd {
    fn score(&self, node: &Node, request: &Request) -> Score {
        self.best(node, request).map_or(0, |(score, _)| score)
    }

    fn devices(&self, node: &Node, request: &Request, _: &mut fastrand::Rng) -> Option<Devices> {
        self.best(node, request).map(|(_, devices)| devices)
    }
}

#[test]
fn a_whole_gpu_is_kept_for_those_who_need_one() {
    use super::testing::{node, request};
    use crate::request::GpuRequest::{Share, Whole};
    use crate::target::TargetWorkload;
    let workload = [request(1, Whole(1)), request(1, Share(500))];
    let fgd = Fgd::new(Fragmentation::new(&TargetWorkload::of(&workload), 0));
    let pod = request(1, Share(300));
    // Into the GPU in use: then 200 are left that nobody can use, and 500 were of use to half.
    let open = node(8, &[1000, 500]);
    assert_eq!(fgd.devices(&open, &pod, &mut fastrand::Rng::with_seed(0)), Some(Devices::one(1)));
    // On a free GPU 700 remain, of no use to half of the pods.
    assert!(fgd.score(&open, &pod) > fgd.score(&node(8, &[1000, 1000]), &pod));
}
