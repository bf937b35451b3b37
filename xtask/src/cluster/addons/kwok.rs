//! kwok: simulated nodes, whose pods become ready without running, for tests of scale.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};

use super::super::kubectl::Kubectl;
use super::super::layout::{CONTROL_PLANE, Layout};
use super::super::process::{Daemon, Place};

/// How long the first simulated node may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// Starts kwok beside the control plane and adds so many nodes.
pub(crate) fn start(
    layout: &Layout,
    kubectl: &Kubectl,
    program: &Path,
    nodes: u32,
) -> anyhow::Result<()> {
    let arguments = [
        format!("--kubeconfig={}", layout.kubeconfig().display()),
        "--manage-all-nodes=false".to_owned(),
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
        // Addresses of simulated pods, which nothing answers at.
        "--cidr=10.64.0.0/12".to_owned(),
        format!("--node-ip={CONTROL_PLANE}"),
    ];
    Daemon::new("kwok", program, arguments).start(layout, &Place::control_plane(layout))?;
    create_nodes(kubectl, nodes)?;
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    let arguments = ["get", "node", "kwok-0", "-o", ready];
    kubectl.until("a simulated node", READY, &arguments, |text| text == "True")
}

fn create_nodes(kubectl: &Kubectl, nodes: u32) -> anyhow::Result<()> {
    let items: Vec<_> = (0..nodes).map(node).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let mut child = kubectl
        .inside("kubectl")
        .args(["create", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().expect("it was asked for");
    input.write_all(list.to_string().as_bytes())?;
    drop(input);
    if !child.wait()?.success() {
        bail!("kubectl could not create {nodes} simulated nodes");
    }
    Ok(())
}

/// A large node that only pods which tolerate its taint come to.
fn node(number: u32) -> Value {
    let name = format!("kwok-{number}");
    let capacity =
        json!({"cpu": "32", "memory": "256Gi", "ephemeral-storage": "4Ti", "pods": "110"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": "kwok",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/role": "agent",
            },
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": capacity,
            "capacity": capacity,
            "nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "",
                "kernelVersion": "", "kubeProxyVersion": "fake", "kubeletVersion": "fake",
                "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
            },
            "phase": "Running",
        },
    })
}
