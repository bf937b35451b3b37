use serde_json::json;
use trainyard_rules::Quantity;

use crate::diagnosis::diagnosis;
use crate::patch;
use crate::report::Report;
use crate::view::{View, list, quantity, text};

diagnosis! {
    /// The kernel killed the container at its memory limit
    ///
    /// ## Signature
    /// A container ended with the reason `OOMKilled`, and is not up and ready again, or for less than
    /// ten minutes.
    ///
    /// ## Cause
    /// Main memory, not the GPU's: weights are staged in it while they load, and files in a `/dev/shm`
    /// of medium Memory count too.
    ///
    /// ## How to mend it
    /// Raise the memory limit, or load with less (fewer workers, weights that are mapped, smaller
    /// shared memory).
    D24, Error,
    needs: [Pods],
    rules: ["GPU22", "GPU20"],
    source: "kubernetes/website, memory limits; kubelet's reason OOMKilled",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| pod.phase() != "Succeeded") {
        for container in pod.containers() {
            let Some((ended, at)) = container.ended() else { continue };
            if text(ended, "/reason") != "OOMKilled" || !container.failed_lately(view.now) {
                continue;
            }
            let limit = container.resource("limits", "memory");
            let shown = limit.and_then(quantity).map_or_else(
                || "it has no limit of its own, so the node or the pod ran out".to_owned(),
                |it| format!("at its limit of {it}"),
            );
            let finding = report.at(
                pod.object.reference(),
                format!("container `{}` was killed for want of memory: {shown}", container.name()),
            );
            finding.field(pod.object, &container.path(&format!("{at}/reason")));
            finding.field(pod.object, &container.path(&format!("{at}/exitCode")));
            finding.field(pod.object, &container.path("/restartCount"));
            if let Some(limit) = limit {
                finding.value(
                    pod.object,
                    &format!("spec.containers[{}].resources.limits.memory", container.name()),
                    limit.clone(),
                );
            }
            let in_memory = |it: &&serde_json::Value| text(it, "/emptyDir/medium") == "Memory";
            for volume in list(pod.object.0, "/spec/volumes").iter().filter(in_memory) {
                finding.value(
                    pod.object,
                    &format!("spec.volumes[{}].emptyDir", text(volume, "/name")),
                    volume.get("emptyDir").cloned().unwrap_or_default(),
                );
                finding.because("what is written there counts against the memory limit");
            }
            if let Some(limit) = limit.and_then(quantity) {
                let more = mebibytes(limit.times(2));
                let change = json!({"containers": [{
                    "name": container.name(), "resources": {"limits": {"memory": more}},
                }]});
                finding.mend(patch::pod_spec(view, pod, change));
            } else {
                finding
                    .advise("set memory requests, so that the scheduler finds a node with enough");
            }
        }
    }
}

fn mebibytes(amount: Quantity) -> String {
    format!("{}Mi", (amount.units() >> 20).max(1))
}
