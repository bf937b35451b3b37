use crate::diagnosis::diagnosis;
use crate::pending::{amount, count};
use crate::report::Report;
use crate::view::{View, is_gpu_resource, text};

diagnosis! {
    /// No node advertises the resource that the pod asks for
    ///
    /// ## Signature
    /// The pod is unschedulable, asks for an extended resource, and no node has any of it.
    ///
    /// ## Cause
    /// The device plugin is not installed, is down, or advertises another name (`nvidia.com/gpu.shared`
    /// where GPUs are shared, `nvidia.com/mig-…` where they are partitioned); or there is no such node.
    ///
    /// ## How to mend it
    /// Ask for a name that nodes have, or bring the device plugin up: D44 to D47 say what is wrong on
    /// each node.
    D02, Error,
    needs: [Pods, Nodes],
    rules: ["GPU16"],
    yields_to: ["D56", "D12"],
    source: "kubernetes/website, device plugins; NVIDIA/k8s-device-plugin README on resource names",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for pending in view.pending() {
        let Some((resource, wanted)) = pending.not_advertised() else { continue };
        let mut others: Vec<&str> = view
            .nodes()
            .iter()
            .flat_map(|node| node.gpus().map(|(name, _)| name).collect::<Vec<_>>())
            .collect();
        others.sort_unstable();
        others.dedup();
        let object = pending.pod.object;
        let finding = report.at(
            object.reference(),
            format!(
                "asks for {} of `{resource}`, which none of {} has",
                amount(resource, wanted),
                count(view.nodes().len(), "node"),
            ),
        );
        finding.unscheduled(object);
        for node in view.nodes().iter().filter(|node| node.gpu_sign().is_some()).take(3) {
            let (label, value) = node.gpu_sign().unwrap_or_default();
            finding.value(node.object, &format!("metadata.labels.{label}"), value);
            finding.value(node.object, &format!("status.allocatable.{resource}"), "absent");
        }
        if !others.is_empty() {
            finding.because(format!("nodes have {}", others.join(", ")));
            finding.advise(format!("ask for `{}` instead, if that is what is meant", others[0]));
            continue;
        }
        let plugins: Vec<_> =
            view.of_kind("DaemonSet").iter().filter(|it| is_plugin(it.0)).collect();
        match plugins.first() {
            Some(plugin) => {
                finding.field(**plugin, "/status/numberReady");
                finding.field(**plugin, "/status/desiredNumberScheduled");
                let (namespace, name) = (plugin.namespace(), plugin.name());
                finding.run(format!("kubectl -n {namespace} logs daemonset/{name} --tail 50"));
            }
            None if is_gpu_resource(resource) => {
                finding.because("no DaemonSet of a GPU device plugin is there");
                finding.advise("install the GPU's device plugin or operator");
            }
            None => {
                finding
                    .advise(format!("correct the name `{resource}`, or install its device plugin"));
            }
        }
    }
}

/// A DaemonSet whose image is a GPU device plugin.
pub(crate) fn is_plugin(daemon_set: &serde_json::Value) -> bool {
    crate::view::list(daemon_set, "/spec/template/spec/containers").iter().any(|container| {
        let image = text(container, "/image");
        image.contains("device-plugin")
            && (image.contains("nvidia") || image.contains("gpu") || image.contains("amd"))
            || image.contains("nvidia/k8s-device-plugin")
    })
}
