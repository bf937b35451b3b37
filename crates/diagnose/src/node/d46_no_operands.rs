use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::patch;
use crate::report::Report;
use crate::schedule::taint_text;
use crate::view::{Object, View};

use super::operands::{on, plugin_sets};

diagnosis! {
    /// The device plugin does not come to a GPU node
    ///
    /// ## Signature
    /// A ready node has a label that says that it has NVIDIA GPUs, it advertises none, and no pod of a
    /// device plugin is on it though the plugin's DaemonSet is there (or there is none at all).
    ///
    /// ## Cause
    /// A taint that the DaemonSet does not tolerate; a label that its node selector asks for and that
    /// nobody set (node feature discovery is missing or has not run); or no plugin was installed.
    ///
    /// ## How to mend it
    /// Add the toleration to the DaemonSet (`daemonsets.tolerations` of the GPU operator), or the
    /// label to the node; install the plugin.
    D46, Error,
    needs: [Nodes, Pods, Resource("daemonsets.apps")],
    rules: ["GPU18"],
    source: "NVIDIA/gpu-operator, troubleshooting: no operand pods; node feature discovery label pci-10de.present",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let sets = plugin_sets(view);
    for node in view.nodes() {
        let Some((label, value)) = node.gpu_sign() else { continue };
        let has = node
            .capacity
            .keys()
            .chain(node.allocatable.keys())
            .any(|name| crate::view::is_gpu_resource(name));
        if has || !node.is_ready() || on(view, node.name(), "plugin").is_some() {
            continue;
        }
        let finding_at = node.object.reference();
        let Some(set) = sets.first() else {
            let finding =
                report.at(finding_at, "has GPUs, and no device plugin is installed in the cluster");
            finding.sure(Confidence::Likely);
            finding.value(node.object, &format!("metadata.labels.{label}"), value);
            finding.advise("install NVIDIA's GPU operator or device plugin");
            continue;
        };
        let tolerations = set.list("/spec/template/spec/tolerations");
        let taints: Vec<_> = node
            .taints()
            .filter(|taint| !crate::schedule::is_tolerated(tolerations, taint))
            .collect();
        let missing =
            selector(*set).into_iter().find(|(key, wanted)| node.object.label(key) != Some(wanted));
        let why = match (taints.first(), &missing) {
            (Some(taint), _) => {
                format!("the DaemonSet does not tolerate its taint `{}`", taint_text(taint))
            }
            (None, Some((key, wanted))) => {
                format!("the DaemonSet asks for the label `{key}={wanted}`, which it lacks")
            }
            (None, None) => "the DaemonSet has no pod on it".to_owned(),
        };
        let is_known = !taints.is_empty() || missing.is_some();
        let finding =
            report.at(finding_at, format!("has GPUs, and no device plugin comes to it: {why}"));
        finding.sure(if is_known { Confidence::Certain } else { Confidence::Likely });
        finding.value(node.object, &format!("metadata.labels.{label}"), value);
        finding.field(node.object, "/spec/taints");
        finding.field(*set, "/spec/template/spec/tolerations");
        finding.field(*set, "/spec/template/spec/nodeSelector");
        if !taints.is_empty() {
            let mut all = tolerations.to_vec();
            for taint in &taints {
                all.push(serde_json::json!({
                    "key": crate::view::text(taint, "/key"), "operator": "Exists",
                    "effect": crate::view::text(taint, "/effect"),
                }));
            }
            let change = serde_json::json!({"spec": {"template": {"spec": {"tolerations": all}}}});
            finding.mend(patch::object(*set, "strategic", change));
            finding.advise("of the GPU operator: add it to `daemonsets.tolerations` in the ClusterPolicy, which writes the DaemonSets");
        } else if let Some((key, wanted)) = missing {
            finding.run(format!("kubectl label node {} {key}={wanted}", node.name()));
            if key.starts_with("feature.node.kubernetes.io")
                || key.starts_with("nvidia.com/gpu.deploy")
            {
                finding.advise("node feature discovery and the GPU operator set this label: see that their pods run on the node");
            }
        } else {
            finding.run(format!(
                "kubectl -n {} describe daemonset {}",
                set.namespace(),
                set.name()
            ));
        }
    }
}

fn selector<'a>(set: Object<'a>) -> Vec<(&'a str, &'a str)> {
    let map = set.at("/spec/template/spec/nodeSelector").and_then(serde_json::Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}
