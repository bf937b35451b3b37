use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any};
use crate::report::Report;
use crate::view::{View, is_gpu_resource};

use super::operands::on;

diagnosis! {
    /// The device plugin runs on a GPU node and advertises nothing
    ///
    /// ## Signature
    /// A ready node has a label that says that it has NVIDIA GPUs, a pod of a device plugin is on it, and
    /// its capacity has no GPU resource or zero of it.
    ///
    /// ## Cause
    /// By its log: no NVML (not NVIDIA's runtime), a MIG strategy that does not fit the GPUs' state, a
    /// configuration that does not exist, or a kubelet that did not take its registration.
    ///
    /// ## How to mend it
    /// By the cause; then delete the plugin's pod.
    D47, Error,
    needs: [Nodes, Pods, Logs],
    rules: ["GPU16", "GPU19"],
    yields_to: ["D44", "D45"],
    source: "NVIDIA/k8s-device-plugin: its messages",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for node in view.nodes() {
        let Some((label, value)) = node.gpu_sign() else { continue };
        let all = node.capacity.iter().filter(|(name, _)| is_gpu_resource(name));
        let has = all.into_iter().any(|(_, count)| !count.is_zero());
        let Some(plugin) = on(view, node.name(), "plugin").filter(|_| !has && node.is_ready())
        else {
            continue;
        };
        let lines = view
            .logs_of(&plugin)
            .iter()
            .flat_map(|tail| tail.lines.iter().map(move |line| (*tail, line)));
        // That there is no device is what follows from the other causes.
        let causes = lines.filter_map(|(tail, line)| Some((tail, line, cause(line)?)));
        let cause = causes.min_by_key(|(_, _, (why, _))| *why == NO_DEVICE);
        // A pod that does not start has a diagnosis of its own.
        if plugin.phase() != "Running" && cause.is_none() {
            continue;
        }
        let object = plugin.object.reference();
        let why = cause.as_ref().map_or("its log says why", |(_, _, (why, _))| *why);
        let finding = report
            .at(node.object.reference(), format!("its device plugin runs and finds no GPU: {why}"));
        finding.also([object.clone()]);
        finding.sure(if cause.is_some() { Confidence::Certain } else { Confidence::Likely });
        finding.value(node.object, &format!("metadata.labels.{label}"), value);
        finding.field(node.object, "/status/capacity/nvidia.com~1gpu");
        finding.field(plugin.object, "/status/phase");
        if let Some((tail, line, (_, fix))) = cause {
            finding.log(tail, line).advise(fix);
        } else {
            finding.run(format!("kubectl -n {} logs {} --tail 50", object.namespace, object.name));
        }
        finding.run(format!("kubectl -n {} delete pod {}", object.namespace, object.name));
    }
}

const NO_DEVICE: &str = "it finds no device";

fn cause(line: &str) -> Option<(&'static str, &'static str)> {
    Some(
        if has_any(
            line,
            &[
                "failed to initialize nvml",
                "could not load nvml",
                "error_library_not_found",
                "nvml: not supported",
            ],
        ) || has_all(line, &["incompatible", "strategy detected"])
        {
            (
                "it cannot use NVML",
                "run it with NVIDIA's runtime (`runtimeClassName: nvidia`), on a node with the driver",
            )
        } else if has_all(line, &["mig"])
            && has_any(
                line,
                &["strategy", "invalid", "more than one", "no mig devices", "at least one device"],
            )
        {
            (
                "the MIG strategy does not fit how the GPUs are partitioned",
                "use the strategy `mixed`, or partition all GPUs of the node in one way",
            )
        } else if has_any(line, &["no devices found", "no valid resources detected"]) {
            (NO_DEVICE, "see that the driver is loaded: `trainyard agent --probe` on the node")
        } else if has_all(line, &["config"])
            && has_any(line, &["not found", "no such file", "specified config", "invalid"])
        {
            (
                "its configuration is not there or not valid",
                "correct the node's label `nvidia.com/device-plugin.config` or the plugin's ConfigMap",
            )
        } else if has_all(line, &["could not register"]) || has_all(line, &["failed to register"]) {
            ("the kubelet did not take it", "restart the plugin's pod after the kubelet")
        } else {
            return None;
        },
    )
}
