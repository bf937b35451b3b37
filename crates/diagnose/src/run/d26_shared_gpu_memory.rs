use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::View;

use super::gpu_memory::{hits, neighbour};

diagnosis! {
    /// Another pod has the GPU memory that the container needs
    ///
    /// ## Signature
    /// As D25, and the GPU is shared with another pod, or an earlier revision of the same service is
    /// still ending on the node.
    ///
    /// ## Cause
    /// Time slicing divides time, not memory: each takes what it can get. An old replica keeps its
    /// memory until it has ended.
    ///
    /// ## How to mend it
    /// Give each program its part of the memory (`resources.gpu.memory` of a ModelService does it for
    /// each framework), or share with MPS or MIG; wait until the old replica has ended.
    D26, Error,
    needs: [Pods, Nodes, Logs],
    rules: ["GPU05", "GPU04", "SEC08"],
    source: "NVIDIA/k8s-device-plugin README on sharing; knative-extensions/serving-progressive-rollout#204",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for hit in hits(view) {
        let Some((other, why)) = neighbour(view, &hit.pod) else { continue };
        let is_ending = other.object.is_ending();
        let finding = report.at(
            hit.pod.object.reference(),
            format!(
                "container `{}` finds the GPU's memory taken by {}",
                hit.container.name(),
                other.object.reference()
            ),
        );
        finding.sure(Confidence::Likely);
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        finding.because(why);
        finding.field(other.object, "/spec/nodeName");
        finding.field(other.object, "/metadata/deletionTimestamp");
        if let Some(node) = view.node(hit.pod.node_name()) {
            for label in ["nvidia.com/gpu.replicas", "nvidia.com/gpu.sharing-strategy"] {
                if let Some(value) = node.object.label(label) {
                    finding.value(node.object, &format!("metadata.labels.{label}"), value);
                }
            }
        }
        if is_ending {
            finding.advise("wait until it has ended, or let an update take the old pod away first (`maxSurge: 0`)");
        } else {
            finding.advise("set each program's part of the memory, such as `--gpu-memory-utilization` of vLLM or `XLA_PYTHON_CLIENT_MEM_FRACTION` of JAX, so that they add up to less than 1");
            finding.advise("or share by MPS or MIG, which divide the memory");
        }
    }
}
