use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Pod, Purpose, Vendor};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Runtime class that is missing or not there
    ///
    /// ## What it does
    /// Looks for GPU pods without a runtime class in a file that defines RuntimeClass `nvidia`, or
    /// beside pods that name it, and for names that a folder's own RuntimeClasses do not have. Silent
    /// under profiles where `nvidia` is the default runtime (`eks`, `gke`, `aks`).
    ///
    /// ## Why it matters
    /// Where `nvidia` is not the default runtime, a pod without the class starts without the driver's
    /// libraries: "Failed to infer device type", "no CUDA-capable device". A class that is not there
    /// keeps the pod from being created.
    ///
    /// ## How to fix it
    /// Set `runtimeClassName: nvidia`.
    GPU23, Warning,
    evidence: "NVIDIA/k8s-device-plugin README, Running GPU jobs: runtimeClassName where nvidia is not the default runtime; k3s and RKE2 documentation",
    check: Check::Pod(check),
    examples: [
        Example::bad("a class is defined and not used", "\
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: nvidia}
handler: nvidia
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
", &[9]),
        Example::bad("a class with a typing error", "\
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: nvidia}
handler: nvidia
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  runtimeClassName: nvdia
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
", &[10]),
        Example::good("the class that is defined", "\
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: nvidia}
handler: nvidia
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  runtimeClassName: nvidia
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("no class anywhere", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

/// Classes that components bring with them.
const BROUGHT: [&str; 7] =
    ["nvidia", "nvidia-cdi", "nvidia-legacy", "nvidia-experimental", "gvisor", "kata", "crun"];

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let class = pod.spec.get("runtimeClassName");
    let asks = pod.devices().any(|(_, d)| d.vendor == Vendor::Nvidia && d.is_gpu());
    if !asks || pod.purpose == Purpose::System {
        return;
    }
    let bundle = context.bundle;
    if let Some(name) = class.text() {
        let mut near = bundle.near("RuntimeClass", pod.spec).peekable();
        let known = near.peek().is_none() || near.any(|object| object.name == name);
        if !known && !BROUGHT.contains(&name) && !name.starts_with("kata") {
            report
                .at(
                    class,
                    format!("the pod is refused unless the cluster has it from elsewhere: no RuntimeClass `{name}` is among those defined here"),
                )
                .fix("name a class that exists, such as `nvidia`");
        }
        return;
    }
    if !pod.complete || context.facts().lint.nvidia_is_default_runtime == Some(true) {
        return;
    }
    let defined = bundle
        .in_file("RuntimeClass", pod.spec)
        .any(|object| object.root.get("handler").is("nvidia"));
    if defined {
        report
            .at(
                class,
                "the container starts without the GPU driver's libraries where `nvidia` is not the default runtime, and this file defines a RuntimeClass for it that the pod does not name",
            )
            .fix("set `runtimeClassName: nvidia`")
            .edit(Edit::insert(pod.spec, "runtimeClassName", "nvidia"));
    }
}
