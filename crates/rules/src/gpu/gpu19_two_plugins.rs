use crate::context::Context;
use crate::model::{Object, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use std::collections::HashMap;

rule! {
    /// Two device plugins for one resource
    ///
    /// ## What it does
    /// Looks for two DaemonSets in one file that announce the same resource on the same nodes, and for
    /// a device plugin beside a GPU operator that brings its own. DaemonSets with different node
    /// selectors or affinities are left alone.
    ///
    /// ## Why it matters
    /// Both register with the kubelet under one name; whichever comes last wins until the other
    /// restarts. GPUs are handed out twice, or vanish from the node's capacity.
    ///
    /// ## How to fix it
    /// Remove one, or give each its own nodes.
    GPU19, Error,
    evidence: "kubernetes/website, docs/concepts/extend-kubernetes/device-plugins: a plugin registers a resource name with the kubelet; NVIDIA/gpu-operator documentation",
    check: Check::Bundle(check),
    examples: [
        Example::bad("two of one kind", "\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: p, namespace: kube-system} 
spec:
  selector: {matchLabels: {name: p}}
  template:
    metadata: {labels: {name: p}}
    spec:
      containers:
        - {name: p, image: \"nvcr.io/nvidia/k8s-device-plugin:v0.17.1\"}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: q, namespace: kube-system}
spec:
  selector: {matchLabels: {name: q}}
  template:
    metadata: {labels: {name: q}}
    spec:
      containers:
        - {name: p, image: \"nvcr.io/nvidia/k8s-device-plugin:v0.17.1\"}
", &[14]),
        Example::good("each on its own nodes", "\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: p, namespace: kube-system}
spec:
  selector: {matchLabels: {name: p}}
  template:
    metadata: {labels: {name: p}}
    spec:
      nodeSelector: {pool: p}
      containers:
        - {name: p, image: \"nvcr.io/nvidia/k8s-device-plugin:v0.17.1\"}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: q, namespace: kube-system}
spec:
  selector: {matchLabels: {name: q}}
  template:
    metadata: {labels: {name: q}}
    spec:
      nodeSelector: {pool: q}
      containers:
        - {name: p, image: \"nvcr.io/nvidia/k8s-device-plugin:v0.17.1\"}
"),
    ],
}

fn check(context: &Context<'_>, report: &mut Report) {
    // By file: a repository often holds several ways to install one plugin.
    let mut first: HashMap<(usize, &str), Vec<&Pod<'_>>> = HashMap::new();
    for set in context.bundle.of_kind("DaemonSet") {
        for pod in context.bundle.pods_of(set) {
            let Some(resource) = announces(pod) else { continue };
            let file = pod.spec.file().index;
            if let Some(policy) =
                operator_beside(context, pod).filter(|_| resource == "nvidia.com/gpu")
            {
                tell(report, set, resource, &policy.reference());
                continue;
            }
            let others = first.entry((file, resource)).or_default();
            match others.iter().find(|other| same_nodes(other, pod)) {
                Some(other) => tell(report, set, resource, &other.object.reference()),
                None => others.push(pod),
            }
        }
    }
}

fn tell(report: &mut Report, set: &Object<'_>, resource: &str, other: &str) {
    report
        .at(
            set.metadata().get("name"),
            format!("nodes announce `{resource}` twice, and GPUs are handed out twice or vanish: {other} announces it too"),
        )
        .fix("remove one of the two, or give each its own nodes");
}

/// The resource that a device plugin announces.
fn announces(pod: &Pod<'_>) -> Option<&'static str> {
    pod.main_containers().filter_map(|container| container.image).find_map(|image| {
        match image.short_name() {
            "k8s-device-plugin"
                if image.repository.contains("amd") || image.repository.contains("rocm") =>
            {
                Some("amd.com/gpu")
            }
            "k8s-device-plugin" if !image.repository.contains("volcano") => Some("nvidia.com/gpu"),
            "nvidia-gpu-device-plugin" => Some("nvidia.com/gpu"),
            _ => None,
        }
    })
}

/// A ClusterPolicy of the GPU operator in a pod's file, unless its device plugin is off.
fn operator_beside<'a>(context: &'a Context<'_>, pod: &Pod<'_>) -> Option<&'a Object<'a>> {
    context.bundle.in_file("ClusterPolicy", pod.spec).find(|policy| {
        policy.group() == "nvidia.com"
            && policy.root.path("spec.devicePlugin.enabled").bool() != Some(false)
    })
}

/// Whether two templates run on the same nodes, as far as selectors tell.
fn same_nodes(a: &Pod<'_>, b: &Pod<'_>) -> bool {
    let wanted = |pod: &Pod<'_>| {
        let mut list: Vec<(String, Vec<String>)> = pod
            .node_requirements()
            .into_iter()
            .map(|r| (r.key.to_owned(), r.values.into_iter().map(str::to_owned).collect()))
            .collect();
        list.sort();
        list
    };
    wanted(a) == wanted(b)
}
