//! The signature of a GPU whose memory is full, and who else uses that GPU.

use crate::matching::{Hit, has_all, has_any, of_failed};
use crate::view::{Pod, View, is_gpu_resource};

pub(super) fn is_full(line: &str) -> bool {
    has_any(
        line,
        &[
            "cuda out of memory",
            "torch.outofmemoryerror",
            "cuda_error_out_of_memory",
            "cudaerrormemoryallocation",
        ],
    ) || has_all(line, &["resource_exhausted", "out of memory"])
        || has_all(line, &["cuda error", "out of memory"])
        || has_any(line, &["no available memory for the cache blocks"])
        || has_all(line, &["free memory on device", "is less than desired gpu memory utilization"])
}

pub(super) fn hits<'a>(view: &View<'a>) -> Vec<Hit<'a>> {
    of_failed(view, is_full)
}

/// A pod that has a part of the same GPU, or whose end is awaited on it, and how that is known.
pub(super) fn neighbour<'a>(view: &View<'a>, pod: &Pod<'a>) -> Option<(Pod<'a>, String)> {
    let others = || {
        view.pods_on(pod.node_name()).iter().filter(|other| {
            !other.has_ended()
                && other.object.reference() != pod.object.reference()
                && !other.gpus().is_empty()
        })
    };
    let top = view.top(pod.object).reference();
    let ending =
        others().find(|it| it.object.is_ending() && view.top(it.object).reference() == top);
    if let Some(old) = ending {
        return Some((
            old.clone(),
            "its earlier revision is still ending on the same node".to_owned(),
        ));
    }
    let resource =
        pod.gpus().into_iter().map(|(name, _)| name).find(|name| is_gpu_resource(name))?;
    let node = view.node(pod.node_name())?;
    let replicas =
        node.object.label("nvidia.com/gpu.replicas").and_then(|it| it.parse::<u32>().ok());
    let is_shared = resource == "nvidia.com/gpu.shared"
        || resource == "nvidia.com/gpu" && replicas.unwrap_or(1) > 1;
    let sharer = others().find(|it| it.gpus().iter().any(|(name, _)| *name == resource))?;
    is_shared.then(|| {
        (
            sharer.clone(),
            format!("`{resource}` on `{}` is a share of a GPU that others use too", node.name()),
        )
    })
}
