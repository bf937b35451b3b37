//! Best fit and worst fit: by what would be left of a node.

use super::{Score, Scorer};
use crate::node::Node;
use crate::request::Request;

/// The largest node of the paper's cluster: 128 cores and 8 GPUs.
pub(super) const LARGEST_CPU_MILLI: f64 = 128_000.0;
pub(super) const LARGEST_GPU_MILLI: f64 = 8_000.0;

/// What is left after the request, as a part of the largest node, cores and GPUs weighted alike;
/// from 0 (nothing) to 1.
fn left_after(node: &Node, request: &Request) -> f64 {
    let cpu = f64::from(node.cpu_left) - f64::from(request.cpu_milli);
    let gpu = f64::from(node.gpu_left()) - f64::from(request.gpu.milli());
    0.5 * cpu / LARGEST_CPU_MILLI + 0.5 * gpu / LARGEST_GPU_MILLI
}

/// In whole hundredths, as all scores of Kubernetes' scheduler are.
#[derive(Debug)]
pub(super) struct BestFit;

impl Scorer for BestFit {
    fn score(&self, node: &Node, request: &Request) -> Score {
        ((1.0 - left_after(node, request)) * 100.0) as Score
    }
}

#[derive(Debug)]
pub(super) struct WorstFit;

impl Scorer for WorstFit {
    fn score(&self, node: &Node, request: &Request) -> Score {
        (left_after(node, request) * 100.0) as Score
    }
}

#[test]
fn what_is_left_decides() {
    use super::testing::{node, request};
    use crate::request::GpuRequest::Share;
    let full = node(16, &[500, 0]);
    let empty = node(16, &[1000, 1000]);
    let pod = request(4, Share(500));
    // 12 of 128 cores and nothing of 8 GPUs, and 1.5 GPUs of 8.
    assert_eq!(BestFit.score(&full, &pod), 95);
    assert_eq!(BestFit.score(&empty, &pod), 85);
    assert_eq!(WorstFit.score(&full, &pod), 4);
    assert_eq!(WorstFit.score(&empty, &pod), 14);
}
