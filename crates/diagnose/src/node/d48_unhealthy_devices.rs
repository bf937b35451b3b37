use trainyard_rules::Quantity;

use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::pending::amount;
use crate::report::Report;
use crate::view::{Node, View, is_gpu_resource};

use super::operands::on;

diagnosis! {
    /// A node offers fewer GPUs than it has
    ///
    /// ## Signature
    /// A GPU resource is allocatable in a smaller number than its capacity, or than GPU feature
    /// discovery counted (GPUs × replicas).
    ///
    /// ## Cause
    /// The device plugin took a device for unhealthy, mostly after an Xid error. It does not give the
    /// device back by itself, even when the GPU is well again.
    ///
    /// ## How to mend it
    /// Find the Xid (D49 to D54), reset or replace the GPU, then restart the plugin's pod.
    D48, Error,
    needs: [Nodes],
    source: "NVIDIA/k8s-device-plugin, internal/plugin/server.go: no recovery; kubernetes/kubernetes, device manager",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for node in view.nodes().iter().filter(|node| node.is_ready()) {
        for (resource, capacity) in node.capacity.iter().filter(|(name, _)| is_gpu_resource(name)) {
            let allocatable = node.allocatable.get(resource).copied().unwrap_or(Quantity::whole(0));
            let labelled = expected(node, resource);
            let expected = labelled.map_or(*capacity, |it| it.max(*capacity));
            if allocatable >= expected || expected.is_zero() {
                continue;
            }
            // Without a device the resource was never there: D46, D47.
            let is_certain = allocatable < *capacity;
            if !is_certain && capacity.is_zero() {
                continue;
            }
            let finding = report.at(
                node.object.reference(),
                format!(
                    "offers {} of its {} `{resource}`",
                    amount(resource, allocatable),
                    amount(resource, expected)
                ),
            );
            finding.sure(if is_certain { Confidence::Certain } else { Confidence::Likely });
            let at = resource.replace('/', "~1");
            finding.field(node.object, &format!("/status/capacity/{at}"));
            finding.field(node.object, &format!("/status/allocatable/{at}"));
            if let Some(label) = node.object.label("nvidia.com/gpu.count") {
                finding.value(node.object, "metadata.labels.nvidia.com/gpu.count", label);
            }
            finding.because(
                "the device plugin marked devices unhealthy, and does not take that back by itself",
            );
            finding.advise("find the cause: `trainyard agent --probe` on the node shows Xid errors and each GPU's state");
            match on(view, node.name(), "plugin") {
                Some(plugin) => {
                    let plugin = plugin.object.reference();
                    finding
                        .run(format!("kubectl -n {} delete pod {}", plugin.namespace, plugin.name));
                    finding.advise("delete the plugin's pod only after the GPU was reset");
                }
                None => {
                    finding
                        .advise("after the GPU was reset, restart the device plugin on the node");
                }
            }
        }
    }
}

/// GPUs that feature discovery counted, in units of the resource. Only for whole and shared GPUs of
/// nodes that do not partition theirs.
fn expected(node: &Node<'_>, resource: &str) -> Option<Quantity> {
    let number = |label: &str| node.object.label(label)?.parse::<i64>().ok();
    let count = number("nvidia.com/gpu.count")?;
    let kinds = node.capacity.keys().filter(|name| is_gpu_resource(name)).count();
    if kinds != 1 {
        return None;
    }
    match resource {
        "nvidia.com/gpu" | "nvidia.com/gpu.shared" => {
            let replicas = number("nvidia.com/gpu.replicas").filter(|it| *it > 1).unwrap_or(1);
            Some(Quantity::whole(count.saturating_mul(replicas)))
        }
        _ => None,
    }
}
