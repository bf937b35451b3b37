//! The workload that a cluster is kept ready for: which shapes of pods come, and how often.

use std::collections::BTreeMap;

use crate::request::{GpuRequest, ModelSet, Request};

/// The share of all pods that the kept shapes make up, as the FGD paper's scripts have it.
pub const POPULAR: f64 = 0.95;

/// The most shapes that are kept, which bounds the cost of a score whatever is read. The paper's
/// traces need 30 to 130.
pub const MAX_SHAPES: usize = 256;

/// A shape of pods, without its memory: neither FGD nor its authors' measure of fragments looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// GPUs, or a share of one.
    pub gpu: GpuRequest,
    /// Models that will do.
    pub models: ModelSet,
    /// The part of all pods that have this shape; all shapes together have 1.
    pub probability: f64,
}

/// The shapes that come, the most frequent first.
#[derive(Clone, Debug, Default)]
pub struct TargetWorkload {
    shapes: Vec<Shape>,
}

impl TargetWorkload {
    /// Counts the shapes of a workload, and keeps the most frequent that make up [`POPULAR`] of it.
    pub fn of<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Self {
        let mut counts: BTreeMap<(u32, u16, u8, ModelSet), (Request, u64)> = BTreeMap::new();
        let mut total = 0u64;
        for request in requests {
            let key =
                (request.cpu_milli, request.gpu.per_gpu(), request.gpu.count(), request.models);
            counts.entry(key).or_insert((*request, 0)).1 += 1;
            total += 1;
        }
        let mut by_count: Vec<_> = counts.into_iter().collect();
        // The paper's order among equals: larger requests first.
        by_count.sort_by(|(a, (_, m)), (b, (_, n))| n.cmp(m).then_with(|| b.cmp(a)));
        let mut kept = 0u64;
        let mut shapes = Vec::new();
        for (_, (request, count)) in by_count {
            if kept as f64 >= POPULAR * total as f64 || shapes.len() == MAX_SHAPES {
                break;
            }
            kept += count;
            shapes.push(Shape {
                cpu_milli: request.cpu_milli,
                gpu: request.gpu,
                models: request.models,
                probability: count as f64,
            });
        }
        for shape in &mut shapes {
            shape.probability /= kept as f64;
        }
        Self { shapes }
    }

    /// The shapes, the most frequent first.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}

#[test]
fn the_most_frequent_shapes_are_kept() {
    let request = |cpu_milli, memory_mib| Request {
        cpu_milli,
        memory_mib,
        gpu: GpuRequest::Share(500),
        models: ModelSet::ANY,
    };
    let mut requests = vec![request(2000, 1); 60];
    requests.extend(vec![request(1000, 1); 20]);
    requests.extend(vec![request(1000, 2); 15]);
    requests.extend((0..5).map(|at| request(3000 + at, 1)));
    let target = TargetWorkload::of(&requests);
    let kept: Vec<(u32, f64)> =
        target.shapes().iter().map(|it| (it.cpu_milli, it.probability)).collect();
    assert_eq!(kept, [(2000, 60.0 / 95.0), (1000, 35.0 / 95.0)]);
    assert!(TargetWorkload::of(&[]).shapes().is_empty());
}
