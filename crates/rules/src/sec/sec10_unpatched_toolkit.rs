use std::sync::LazyLock;

use serde::Deserialize;

use crate::context::Context;
use crate::facts;
use crate::model::{Object, version};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Container toolkit with a known escape to the host
    ///
    /// ## What it does
    /// Compares versions of the NVIDIA Container Toolkit and the GPU Operator (images,
    /// `spec.toolkit.version` of a ClusterPolicy, charts of Flux and Argo CD) with those in which
    /// escapes from containers were closed. Silent where there is no version.
    ///
    /// ## Why it matters
    /// An image that somebody brings along takes over the node, and with it every pod and GPU of
    /// other teams on it. Three lines in an image were enough (CVE-2025-23266).
    ///
    /// ## How to fix it
    /// Use Container Toolkit 1.17.8 or later, which is GPU Operator 25.3.1 or later.
    SEC10, Warning,
    evidence: "NVIDIA security bulletins: CVE-2024-0132 (toolkit 1.16.2), CVE-2025-23359 (1.17.4), CVE-2025-23266 (1.17.8)",
    check: Check::Bundle(check),
    examples: [
        Example::bad("a toolkit of 2024", "\
apiVersion: nvidia.com/v1
kind: ClusterPolicy
metadata: {name: a}
spec:
  toolkit:
    enabled: true
    version: v1.16.1-ubuntu20.04
", &[7]),
        Example::bad("an operator before the fix", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: gpu-operator}
spec:
  selector: {matchLabels: {app: gpu-operator}}
  template:
    metadata: {labels: {app: gpu-operator}}
    spec:
      containers:
        - name: gpu-operator
          image: nvcr.io/nvidia/gpu-operator:v25.3.0
", &[11]),
        Example::bad("a chart before the fix", "\
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: gpu}
spec:
  source:
    chart: gpu-operator
    targetRevision: v24.9.0
", &[7]),
        Example::good("closed", "\
apiVersion: nvidia.com/v1
kind: ClusterPolicy
metadata: {name: a}
spec:
  toolkit:
    enabled: true
    version: v1.17.8-ubuntu20.04
"),
        Example::good("the toolkit is installed otherwise", "\
apiVersion: nvidia.com/v1
kind: ClusterPolicy
metadata: {name: a}
spec:
  toolkit:
    enabled: false
    version: v1.16.1
"),
    ],
}

#[derive(Deserialize)]
struct Table {
    flaws: Vec<Flaw>,
}

/// A flaw, and the versions in which it is closed.
#[derive(Deserialize)]
struct Flaw {
    id: String,
    toolkit: Vec<u32>,
    operator: Vec<u32>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/toolkit-floors.json")));

#[derive(Clone, Copy)]
enum Part {
    Toolkit,
    Operator,
}

fn check(context: &Context<'_>, report: &mut Report) {
    for container in context.bundle.pods.iter().flat_map(|pod| &pod.containers) {
        let Some(image) = container.image else { continue };
        let part = match image.short_name() {
            "container-toolkit" => Part::Toolkit,
            "gpu-operator" => Part::Operator,
            _ => continue,
        };
        let nvidia =
            image.repository.starts_with("nvidia/") || image.repository.contains("/nvidia/");
        if let Some(version) = image.tag.filter(|_| nvidia) {
            tell(report, container.image_node, part, version);
        }
    }
    for policy in
        context.bundle.of_kind("ClusterPolicy").filter(|object| object.group() == "nvidia.com")
    {
        let toolkit = policy.spec().get("toolkit");
        if toolkit.get("enabled").bool() != Some(false) {
            let node = toolkit.get("version");
            tell(report, node, Part::Toolkit, node.str());
        }
    }
    for kind in ["Application", "HelmRelease"] {
        for object in context.bundle.of_kind(kind) {
            for node in chart_versions(object) {
                tell(report, node, Part::Operator, node.str());
            }
        }
    }
}

/// Versions of the GPU Operator's chart that Argo CD or Flux install.
fn chart_versions<'b>(object: &Object<'b>) -> Vec<Node<'b>> {
    let spec = object.spec();
    let sources = spec.get("sources").items().chain([spec.get("source"), spec.path("chart.spec")]);
    sources
        .filter(|source| source.get("chart").is("gpu-operator"))
        .map(|source| {
            let argo = source.get("targetRevision");
            if argo.is_set() { argo } else { source.get("version") }
        })
        .collect()
}

fn tell(report: &mut Report, node: Node<'_>, part: Part, text: &str) {
    let Some(found) = version(text).filter(|numbers| numbers.len() >= 3) else { return };
    // A range lets newer ones in.
    if text.contains([' ', '|']) {
        return;
    }
    let floor = |flaw: &'static Flaw| match part {
        Part::Toolkit => &flaw.toolkit,
        Part::Operator => &flaw.operator,
    };
    let open: Vec<&'static Flaw> = TABLE.flaws.iter().filter(|flaw| found < *floor(flaw)).collect();
    let Some(needed) = open.iter().map(|flaw| floor(flaw)).max() else { return };
    let ids: Vec<&str> = open.iter().map(|flaw| flaw.id.as_str()).collect();
    let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
    let (what, verb) = match part {
        Part::Toolkit => ("Container Toolkit", "this version of NVIDIA's Container Toolkit is"),
        Part::Operator => ("GPU Operator", "the container toolkit of this GPU Operator is"),
    };
    report
        .at(
            node,
            format!(
                "an image that somebody brings along can take over the node: {verb} open to {}",
                ids.join(", ")
            ),
        )
        .fix(format!("use {what} {} or later", needed.join(".")));
}
