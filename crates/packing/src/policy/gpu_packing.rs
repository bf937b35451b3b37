//! GPU packing: GPUs in use first, then free GPUs of nodes in use, then free nodes, as the FGD
//! paper has it after Antman and MLaaS in the Wild.

use super::{Score, Scorer};
use crate::node::Node;
use crate::request::{GpuRequest, Request, WHOLE_GPU};

#[derive(Debug)]
pub(super) struct GpuPacking;

impl Scorer for GpuPacking {
    fn score(&self, node: &Node, request: &Request) -> Score {
        if request.gpu == GpuRequest::None {
            return 0;
        }
        let free = node.free_gpus();
        if free == node.capacity().gpus {
            return (33 - Score::from(free)).max(Score::from(free));
        }
        match request.gpu {
            // A share takes a free GPU only where no other has room.
            GpuRequest::Share(_) => match node.tightest(request.gpu) {
                Some(devices) => {
                    let left = devices.indices().next().and_then(|it| node.gpu_left.get(it));
                    match left {
                        Some(left) if *left < WHOLE_GPU => {
                            (100 - Score::from(*left) / 10 / 10).max(50)
                        }
                        _ => 49,
                    }
                }
                None => 0,
            },
            _ => (50 - Score::from(request.gpu.count())).max(33),
        }
    }
}

#[test]
fn gpus_in_use_come_first() {
    use super::testing::{node, request};
    use crate::request::GpuRequest::{None, Share, Whole};
    #[track_caller]
    fn check(left: &[u16], gpu: GpuRequest, expected: Score) {
        assert_eq!(GpuPacking.score(&node(16, left), &request(1, gpu)), expected);
    }
    check(&[1000, 300], None, 0);
    check(&[1000, 300], Share(300), 97);
    check(&[700, 300], Share(500), 93);
    check(&[1000, 300], Share(400), 49);
    check(&[1000, 1000], Share(400), 31);
    check(&[1000; 8], Whole(1), 25);
    check(&[1000, 1000, 1000, 300], Whole(2), 48);
}
