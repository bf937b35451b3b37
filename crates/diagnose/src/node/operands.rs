//! Pods that make GPUs of a node usable: those of NVIDIA's GPU operator, and device plugins alone.

use crate::view::{Object, Pod, View, list, text};

/// Labels `app` of the operator's pods, and what each does.
const APPS: [(&str, &str); 9] = [
    ("nvidia-driver-daemonset", "driver"),
    ("nvidia-vgpu-manager-daemonset", "driver"),
    ("nvidia-container-toolkit-daemonset", "toolkit"),
    ("nvidia-device-plugin-daemonset", "plugin"),
    ("nvidia-operator-validator", "validator"),
    ("nvidia-cuda-validator", "validator"),
    ("nvidia-mig-manager", "mig-manager"),
    ("gpu-feature-discovery", "feature-discovery"),
    ("nvidia-dcgm-exporter", "exporter"),
];

/// What a pod does for GPUs: `driver`, `toolkit`, `plugin`, `validator` and so on.
pub(crate) fn operand(pod: &Pod<'_>) -> Option<&'static str> {
    let label = ["app", "app.kubernetes.io/component", "app.kubernetes.io/name", "name", "k8s-app"]
        .iter()
        .find_map(|key| {
            let value = pod.object.label(key)?;
            APPS.iter().find(|(app, _)| value.starts_with(app)).map(|(_, what)| *what)
        });
    label.or_else(|| is_plugin(pod.object.list("/spec/containers")).then_some("plugin"))
}

/// Containers of a GPU device plugin.
fn is_plugin(containers: &[serde_json::Value]) -> bool {
    containers.iter().any(|container| {
        let image = text(container, "/image");
        image.contains("k8s-device-plugin")
            || image.contains("nvidia-gpu-device-plugin")
            || image.contains("nvidia-device-plugin")
    })
}

/// The operator's pod of a kind on a node.
pub(super) fn on<'a>(view: &View<'a>, node: &str, what: &str) -> Option<Pod<'a>> {
    view.pods_on(node)
        .iter()
        .find(|pod| operand(pod) == Some(what) && !pod.object.is_ending())
        .cloned()
}

/// DaemonSets of GPU device plugins.
pub(super) fn plugin_sets<'a>(view: &View<'a>) -> Vec<Object<'a>> {
    let sets = view.of_kind("DaemonSet").iter();
    sets.filter(|set| is_plugin(list(set.0, "/spec/template/spec/containers"))).copied().collect()
}
