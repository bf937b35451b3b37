use std::sync::LazyLock;

use serde::Deserialize;

use crate::context::Context;
use crate::edit::Edit;
use crate::facts;
use crate::model::Pod;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Selector for a GPU label that nothing sets
    ///
    /// ## What it does
    /// Looks at node selectors and required node affinity of pods that ask for GPUs. Keys that
    /// documentation uses as examples only (`accelerator`), misspelt keys of known components, and values that no GPU's
    /// label has (`nvidia.com/gpu.product: A100`), are reported, unless a Node, node pool or
    /// flavour in the bundle sets them.
    ///
    /// ## Why it matters
    /// No node has the label, so the pod stays `Pending`, and nothing says that the name is wrong.
    ///
    /// ## How to fix it
    /// Select by a label that a component sets: `nvidia.com/gpu.product` of GPU feature discovery,
    /// or your cloud's own (`cloud.google.com/gke-accelerator`,
    /// `karpenter.k8s.aws/instance-gpu-name`). `kubectl get nodes --show-labels` lists them.
    GPU07, Error,
    evidence: "kubernetes/website, scheduling-gpus: the key `accelerator` is an example that people set themselves; labels of NVIDIA/k8s-device-plugin docs/gpu-feature-discovery",
    check: Check::Pod(check),
    examples: [
        Example::bad("the example key of the documentation", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector:
    accelerator: nvidia-tesla-v100
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
", &[6]),
        Example::bad("a short name in place of the label's value", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector:
    nvidia.com/gpu.product: A100
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
", &[6]),
        Example::bad("a typing error", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector:
    nvidia.com/gpu.produkt: Tesla-T4
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
", &[6]),
        Example::good("a node of the bundle has the label", "\
apiVersion: v1
kind: Node
metadata:
  name: n
  labels: {accelerator: nvidia-tesla-v100}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector:
    accelerator: nvidia-tesla-v100
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("labels of GPU feature discovery", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector:
    nvidia.com/gpu.product: NVIDIA-A100-SXM4-40GB-SHARED
    nvidia.com/gpu.family: ampere
    our.org/rack: r1
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Labels {
    /// Keys that look like a component's and are only ever set by hand.
    example_keys: Vec<String>,
    /// Keys that components set, in domains that are theirs.
    known_keys: Vec<String>,
    /// Short names that people take for values of `nvidia.com/gpu.product`, and a full value.
    short_products: std::collections::BTreeMap<String, String>,
}

static LABELS: LazyLock<Labels> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/gpu-labels.json")));

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.has_accelerator() {
        return;
    }
    for wanted in pod.node_requirements() {
        if wanted.alternatives > 1 {
            continue;
        }
        let value = wanted.values.first().copied().unwrap_or_default();
        if let Some(known) = nearly(wanted.key) {
            report
                .at_span(
                    wanted.node,
                    if wanted.selector {
                        wanted.node.key_span().unwrap_or(wanted.node.place())
                    } else {
                        wanted.node.place()
                    },
                    format!(
                        "pods stay Pending for ever: no component sets the label `{}`",
                        wanted.key
                    ),
                )
                .fix(format!("did you mean `{known}`?"))
                .edit(if wanted.selector {
                    Edit::rename(wanted.node, known)
                } else {
                    Edit::replace(wanted.node, known)
                });
        } else if is_example(wanted.key, value) && !context.bundle.sets_node_label(wanted.key) {
            report
                .at(
                    wanted.node,
                    format!(
                        "pods stay Pending for ever unless somebody labels nodes by hand: no known component sets the label `{}`",
                        wanted.key
                    ),
                )
                .fix("select by a label that a component sets, such as `nvidia.com/gpu.product`");
        } else if wanted.key == "nvidia.com/gpu.product"
            && let Some(full) = LABELS.short_products.get(&value.to_ascii_uppercase())
            && wanted.values.len() == 1
        {
            report
                .at(
                    wanted.node,
                    format!(
                        "pods stay Pending for ever: no GPU has the product label `{value}`, which is written in full"
                    ),
                )
                .fix(format!("write the whole value, such as `{full}`"));
        }
    }
}

/// Whether a label is one that documentation uses as an example of a label set by hand. AKS once
/// labelled its GPU nodes `accelerator: nvidia`, and still does on old node pools.
fn is_example(key: &str, value: &str) -> bool {
    LABELS.example_keys.iter().any(|example| example == key) && value != "nvidia"
}

/// The label that a component sets and that this one misses by a letter or two.
fn nearly(key: &str) -> Option<&'static str> {
    let domain = key.split_once('/').map(|(domain, _)| domain)?;
    let owned = LABELS.known_keys.iter().any(|known| known.starts_with(domain));
    if !owned || LABELS.known_keys.iter().any(|known| known == key) {
        return None;
    }
    let near = |known: &&String| known.len().abs_diff(key.len()) <= 2 && distance(known, key) <= 2;
    LABELS.known_keys.iter().find(near).map(String::as_str)
}

/// Letters that must be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let mut before: Vec<usize> = (0..=b.len()).collect();
    for (row, x) in a.bytes().enumerate() {
        let mut now = vec![row + 1];
        for (column, y) in b.bytes().enumerate() {
            let change = before.get(column).copied().unwrap_or(0) + usize::from(x != y);
            let remove = before.get(column + 1).copied().unwrap_or(0) + 1;
            let insert = now.get(column).copied().unwrap_or(0) + 1;
            now.push(change.min(remove).min(insert));
        }
        before = now;
    }
    before.last().copied().unwrap_or_default()
}
