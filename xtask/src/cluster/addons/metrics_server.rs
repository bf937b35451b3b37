//! metrics-server, which `kubectl top` and HorizontalPodAutoscalers ask.

use std::path::PathBuf;
use std::time::Duration;

use super::super::build::Build;
use super::super::images::ProgramImage;
use super::super::kubectl::Kubectl;

/// It needs two samples of every node.
const FIRST_METRICS: Duration = Duration::from_secs(120);

pub(crate) fn image() -> anyhow::Result<PathBuf> {
    let (name, program) = ("localhost/metrics-server:1", "metrics-server");
    ProgramImage { build: Build::metrics_server(), program, name, shell: false }.archive()
}

pub(crate) fn apply(kubectl: &Kubectl) -> anyhow::Result<()> {
    super::apply_manifest(kubectl, "metrics-server.yaml")
}

pub(crate) fn wait(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.rolled_out("kube-system", "deployment/metrics-server")?;
    let metrics = ["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"];
    kubectl.until("metrics of a node", FIRST_METRICS, &metrics, |text| text.contains("\"usage\""))
}
