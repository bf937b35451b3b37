//! GPU clustering: nodes where pods run that take the same of GPUs (a share, one, two, …), as the
//! FGD paper has it after Gandiva.

use super::best_fit::LARGEST_GPU_MILLI;
use super::{Score, Scorer};
use crate::node::Node;
use crate::request::{GpuRequest, Request};

#[derive(Debug)]
pub(super) struct GpuClustering;

impl Scorer for GpuClustering {
    fn score(&self, node: &Node, request: &Request) -> Score {
        if request.gpu == GpuRequest::None {
            return 0;
        }
        let largest = LARGEST_GPU_MILLI as Score;
        // The fuller a node the better; up to a quarter of the scale.
        let full = 25 * (largest - Score::from(node.gpu_left())) / largest;
        full + match (node.has_kind(request.gpu), node.kinds_of_pods()) {
            (true, 1) => 75,
            (true, _) => 50,
            (false, 0) => 25,
            (false, _) => 0,
        }
    }
}

#[test]
fn pods_of_a_kind_come_together() {
    use super::testing::{node, request};
    use crate::request::GpuRequest::{Share, Whole};
    #[track_caller]
    fn check(left: &[u16], gpu: GpuRequest, expected: Score) {
        assert_eq!(GpuClustering.score(&node(16, left), &request(1, gpu)), expected);
    }
    check(&[1000, 500], Share(500), 75 + 20);
    check(&[0, 500], Share(500), 50 + 23);
    check(&[1000, 1000], Share(500), 25 + 18);
    check(&[1000, 500], Whole(1), 20);
}
