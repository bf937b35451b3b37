//! What else is worth reading, once the objects of a cluster are known.

use serde_json::Value;

use crate::node::operand;
use crate::snapshot::Snapshot;
use crate::view::{Pod, View, list, number, text};

/// The label of pods that run `trainyard agent --probe`: the last line of their log is a result.
pub const PROBE_LABEL: &str = "trainyard.dev/probe";

/// A log that may hold a signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogWish {
    /// The most telling first.
    rank: u8,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// Of the container before the last restart.
    pub previous: bool,
}

/// A page of metrics that may hold a sample.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricsWish {
    pub namespace: String,
    pub pod: String,
    pub port: u16,
    pub path: String,
    /// It measures its own pod only, as a model server does.
    pub of_itself: bool,
}

/// Logs to read, the most telling first: of containers that failed, of the pods that make GPUs
/// usable, of workers of jobs, of whatever has a GPU.
#[must_use]
pub fn logs(snapshot: &Snapshot, namespace: Option<&str>) -> Vec<LogWish> {
    let view = View::new(snapshot);
    let mut wishes = Vec::new();
    for pod in view.pods() {
        let role = operand(pod);
        let is_asked = namespace.is_none_or(|it| it == pod.object.namespace()) || role.is_some();
        if !is_asked || pod.node_name().is_empty() || pod.phase() == "Succeeded" {
            continue;
        }
        let is_worker = !pod.gpus().is_empty()
            || pod.object.controller().is_some_and(|owner| owner.kind == "Job");
        for container in pod.containers() {
            let state = |at: &str| container.status.pointer(at).is_some();
            let mut wish = |rank: u8, previous: bool| {
                wishes.push(LogWish {
                    rank,
                    namespace: pod.object.namespace().to_owned(),
                    pod: pod.object.name().to_owned(),
                    container: container.name().to_owned(),
                    previous,
                });
            };
            let has_run = state("/state/running") || state("/state/terminated");
            let has_failed = container.failed_lately(view.now);
            if has_failed || container.restarts() > 0 && !pod.is_ready() {
                // While it waits for its next start, both names mean the run before.
                if container.restarts() > 0 {
                    wish(0, true);
                }
                if has_run {
                    wish(1, false);
                }
            } else if has_run && matches!(role, Some("driver" | "plugin" | "validator")) {
                wish(2, false);
            } else if has_run && is_worker && state("/state/running") {
                wish(3, false);
            }
        }
    }
    wishes.sort();
    wishes
}

/// Pods whose log is a node's probe.
#[must_use]
pub fn probes(snapshot: &Snapshot) -> Vec<LogWish> {
    let view = View::new(snapshot);
    let pods = view.pods().iter().filter(|pod| pod.object.label(PROBE_LABEL).is_some());
    pods.filter(|pod| matches!(pod.phase(), "Running" | "Succeeded"))
        .filter_map(|pod| {
            Some(LogWish {
                rank: 0,
                namespace: pod.object.namespace().to_owned(),
                pod: pod.object.name().to_owned(),
                container: text(pod.object.list("/spec/containers").first()?, "/name").to_owned(),
                previous: false,
            })
        })
        .collect()
}

/// Whether the cluster has GPUs, so that a missing probe or exporter matters.
#[must_use]
pub fn has_gpus(snapshot: &Snapshot) -> bool {
    let view = View::new(snapshot);
    view.nodes().iter().any(|node| node.gpu_sign().is_some() || node.gpus().next().is_some())
}

/// Exporters of GPUs, and model servers whose metrics are known.
#[must_use]
pub fn metrics(snapshot: &Snapshot, namespace: Option<&str>) -> Vec<MetricsWish> {
    let view = View::new(snapshot);
    let mut wishes: Vec<MetricsWish> = Vec::new();
    for pod in view.pods().iter().filter(|pod| pod.is_ready() && !pod.object.is_ending()) {
        let is_exporter = operand(pod) == Some("exporter");
        let is_asked = is_exporter || namespace.is_none_or(|it| it == pod.object.namespace());
        if !is_asked || !(is_exporter || is_server(pod)) {
            continue;
        }
        let annotated = pod.object.annotation("prometheus.io/port").and_then(|it| it.parse().ok());
        let port = annotated.or_else(|| port_of(pod)).or(is_exporter.then_some(9400));
        if let Some(port) = port {
            wishes.push(MetricsWish {
                namespace: pod.object.namespace().to_owned(),
                pod: pod.object.name().to_owned(),
                port,
                path: pod.object.annotation("prometheus.io/path").unwrap_or("/metrics").to_owned(),
                of_itself: !is_exporter,
            });
        }
    }
    wishes.sort();
    wishes
}

/// Images of servers whose metrics are looked at.
fn is_server(pod: &Pod<'_>) -> bool {
    pod.containers().iter().any(|container| {
        ["vllm", "sglang", "tritonserver"].iter().any(|name| container.image().contains(name))
    })
}

/// The port called `metrics`, or else the first.
fn port_of(pod: &Pod<'_>) -> Option<u16> {
    let ports = || pod.object.list("/spec/containers").iter().flat_map(|it| list(it, "/ports"));
    let named = ports().find(|port: &&Value| text(port, "/name") == "metrics");
    named
        .or_else(|| ports().next())
        .and_then(|port| u16::try_from(number(port, "/containerPort")?).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn logs_of_what_failed_come_first() {
        let pod = |name: &str, labels: Value, gpu: u8, status: Value| {
            json!({
                "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": labels},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i",
                    "resources": {"limits": {"nvidia.com/gpu": gpu}}}]},
                "status": {"phase": "Running", "containerStatuses": [status]},
            })
        };
        let up = json!({"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let failed = json!({"name": "c", "ready": false, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1}}});
        let snapshot = Snapshot {
            objects: vec![
                pod("well", json!({}), 0, up.clone()),
                pod("gpu", json!({}), 1, up.clone()),
                pod("plugin", json!({"app": "nvidia-device-plugin-daemonset"}), 0, up.clone()),
                pod("probe", json!({"trainyard.dev/probe": "true"}), 0, up),
                pod("sick", json!({}), 0, failed),
            ],
            ..Snapshot::default()
        };
        let names: Vec<(String, bool)> =
            logs(&snapshot, Some("a")).into_iter().map(|it| (it.pod, it.previous)).collect();
        let expected = [("sick", true), ("plugin", false), ("gpu", false)];
        assert_eq!(names, expected.map(|(name, previous)| (name.to_owned(), previous)));
        let elsewhere: Vec<String> =
            logs(&snapshot, Some("b")).into_iter().map(|it| it.pod).collect();
        assert_eq!(elsewhere, ["plugin"]);
        assert_eq!(probes(&snapshot).len(), 1);
        assert!(!has_gpus(&snapshot));
    }

    #[test]
    fn metrics_of_exporters_and_servers() {
        let pod = |name: &str, image: &str, labels: Value, ports: Value| {
            json!({
                "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": labels},
                "spec": {"containers": [{"name": "c", "image": image, "ports": ports}]},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            })
        };
        let snapshot = Snapshot {
            objects: vec![
                pod(
                    "dcgm",
                    "nvcr.io/nvidia/k8s/dcgm-exporter:4",
                    json!({"app": "nvidia-dcgm-exporter"}),
                    json!([]),
                ),
                pod("llm", "vllm/vllm-openai:v1", json!({}), json!([{"containerPort": 8000}])),
                pod("web", "nginx", json!({}), json!([{"containerPort": 80}])),
            ],
            ..Snapshot::default()
        };
        let found: Vec<(String, u16, bool)> = metrics(&snapshot, None)
            .into_iter()
            .map(|it| (it.pod, it.port, it.of_itself))
            .collect();
        assert_eq!(found, [("dcgm".to_owned(), 9400, false), ("llm".to_owned(), 8000, true)]);
        assert_eq!(metrics(&snapshot, Some("b")).len(), 1);
    }
}
