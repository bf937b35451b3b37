use trainyard_rules::Quantity;

use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::pending::amount;
use crate::report::Report;
use crate::view::{Node, View, is_gpu_resource, list, text};

use super::operands::on;

diagnosis! {
    /// A node offers fewer GPUs than it has
    ///
    /// ## Signature
    /// A GPU resource is allocatable in a smaller number than its capacity, or than GPU feature
    /// discovery counted (GPUs × replicas). Or the kubelet calls a device of a pod unhealthy
    /// (`allocatedResourcesStatus`, with the feature `ResourceHealthStatus`).
    ///
    /// ## Cause
    /// The device plugin took a device for unhealthy, mostly after an Xid error. It does not give the
    /// device back by itself, even when the GPU is well again.
    ///
    /// ## How to mend it
    /// Find the Xid (D49 to D54), reset or replace the GPU, then restart the plugin's pod. A pod that
    /// has the device gets another one when it is made anew.
    D48, Error,
    needs: [Nodes, Pods],
    source: "NVIDIA/k8s-device-plugin, internal/plugin/server.go: no recovery; kubernetes/kubernetes, device manager",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    of_nodes(view, report);
    of_pods(view, report);
}

/// Pods that have a device which the kubelet calls unhealthy.
fn of_pods(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| !pod.has_ended() && !pod.object.is_ending()) {
        for container in pod.containers() {
            for (at, resource) in
                list(container.status, "/allocatedResourcesStatus").iter().enumerate()
            {
                let devices = list(resource, "/resources").iter().enumerate();
                for (number, device) in devices.filter(|(_, it)| text(it, "/health") == "Unhealthy")
                {
                    let object = pod.object.reference();
                    let finding = report.at(
                        object.clone(),
                        format!(
                            "container `{}` has the device `{}` of `{}`, which is unhealthy",
                            container.name(),
                            text(device, "/resourceID"),
                            text(resource, "/name"),
                        ),
                    );
                    finding.sure(Confidence::Certain);
                    let place = format!("/allocatedResourcesStatus/{at}/resources/{number}/health");
                    finding.field(pod.object, &container.path(&place));
                    finding.field(pod.object, "/spec/nodeName");
                    finding.because("the device plugin or driver told the kubelet so, mostly after an Xid error");
                    finding
                        .run(format!("kubectl -n {} delete pod {}", object.namespace, object.name));
                    finding.advise("made anew, the pod gets another device, if one is free; then see to this one");
                }
            }
        }
    }
}

fn of_nodes(view: &View<'_>, report: &mut Report) {
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
