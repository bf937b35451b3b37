//! The dot product of what is left and what is asked for, as Tetris has it (Grandl et al.,
//! "Multi-Resource Packing for Cluster Schedulers", SIGCOMM 2014); here the smallest wins, as in the
//! FGD paper's simulator (GPUs of a node merged into one dimension, divided by the largest node).

use super::best_fit::{LARGEST_CPU_MILLI, LARGEST_GPU_MILLI};
use super::{Score, Scorer};
use crate::node::Node;
use crate::request::Request;

#[derive(Debug)]
pub(super) struct DotProduct;

impl Scorer for DotProduct {
    fn score(&self, node: &Node, request: &Request) -> Score {
        let along = |left: u32, asked: u32, largest: f64| {
            f64::from(left) / largest * (f64::from(asked) / largest)
        };
        let product = along(node.cpu_left, request.cpu_milli, LARGEST_CPU_MILLI)
            + along(node.gpu_left(), request.gpu.milli(), LARGEST_GPU_MILLI);
        (100.0 * (1.0 - product / 2.0)) as Score
    }
}

#[test]
fn a_full_node_is_better() {
    use super::testing::{node, request};
    use crate::request::GpuRequest::Whole;
    let pod = request(64, Whole(4));
    // Of eight and of four GPUs with 128 cores: (1 · ½ + 1 · ½) ÷ 2, and (1 · ½ + ½ · ½) ÷ 2.
    assert_eq!(DotProduct.score(&node(128, &[1000; 8]), &pod), 50);
    assert_eq!(DotProduct.score(&node(128, &[1000; 4]), &pod), 62);
}
