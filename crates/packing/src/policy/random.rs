//! Random: the baseline that packs nothing.

use super::{Score, Scorer};
use crate::node::{Devices, Node};
use crate::request::{GpuRequest, Request};

#[derive(Debug)]
pub(super) struct Random;

impl Scorer for Random {
    fn score(&self, _: &Node, _: &Request) -> Score {
        0
    }

    fn devices(&self, node: &Node, request: &Request, rng: &mut fastrand::Rng) -> Option<Devices> {
        let GpuRequest::Share(milli) = request.gpu else { return node.tightest(request.gpu) };
        let room = || (0..).zip(node.gpus_left()).filter(|(_, left)| **left >= milli);
        let chosen = rng.usize(..room().count().max(1));
        room().nth(chosen).map(|(index, _)| Devices::one(index))
    }

    fn is_random(&self) -> bool {
        true
    }
}
