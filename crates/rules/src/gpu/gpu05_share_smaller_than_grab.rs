use super::memory_share;
use crate::context::Context;
use crate::model::{DeviceKind, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Server that takes more of the card than its share
    ///
    /// ## What it does
    /// Compares the share of a GPU that a pod asks for with the fraction that its server takes:
    /// `gpu-fraction` of the KAI scheduler, and shared GPUs (`nvidia.com/gpu.shared`), against
    /// `--gpu-memory-utilization` and its like, or their defaults.
    ///
    /// Silent for HAMi (`nvidia.com/gpumem`), whose library shows the server a smaller card, and for
    /// MPS configured in the bundle.
    ///
    /// ## Why it matters
    /// Time-slicing and fraction-aware schedulers do not limit memory. A server that takes 90 % of the
    /// card leaves nothing to its neighbours: whoever starts second runs out of memory while it loads.
    ///
    /// ## How to fix it
    /// Set the server's fraction to the share, less a little for the CUDA context.
    GPU05, Error,
    evidence: "NVIDIA/k8s-device-plugin README, shared access: time-slicing does not isolate memory; NVIDIA/KAI-Scheduler docs/gpu-sharing: memory limits are not enforced; docs.vllm.ai engine arguments",
    check: Check::Pod(check),
    examples: [
        Example::bad("half a card for a server that takes 90 %", "\
apiVersion: v1
kind: Pod
metadata:
  name: a
  annotations: {gpu-fraction: \"0.5\"}
spec:
  schedulerName: kai-scheduler
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b]
", &[10]),
        Example::bad("a shared GPU and a flag", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args:
        - --model=a/b
        - --gpu-memory-utilization=0.8
      resources: {limits: {nvidia.com/gpu.shared: 1}}
", &[10]),
        Example::good("a fraction below the share", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --gpu-memory-utilization, \"0.4\"]
      resources: {limits: {nvidia.com/gpu.shared: 1}}
"),
        Example::good("a whole card", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b]
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let annotated = ["annotations", "labels"]
        .iter()
        .map(|place| pod.metadata.get(place).get("gpu-fraction"))
        .find(|node| node.exists());
    for container in pod.main_containers() {
        let Some(grab) = memory_share::of(container) else { continue };
        let shared = container.device(DeviceKind::SharedGpu);
        let (share, what) =
            match (annotated.and_then(|node| node.str().parse::<f64>().ok()), shared) {
                (Some(fraction), _) if (0.0..1.0).contains(&fraction) => {
                    (fraction, format!("`gpu-fraction` gives it {fraction}"))
                }
                // Whoever shares a card shares it with at least one other.
                (_, Some(device)) if !uses_mps(context) => {
                    (0.5, format!("`{}` is at most half a card", device.name))
                }
                _ => continue,
            };
        if grab.fraction <= share {
            continue;
        }
        report
            .at_span(
                grab.node,
                grab.span,
                format!(
                    "this server takes {:.0} % of the whole card ({}), but {what}: the next pod on the card, or this one, runs out of memory while it loads",
                    grab.fraction * 100.0,
                    grab.said
                ),
            )
            .fix(format!("set the fraction to at most {:.2}", (share - 0.05).max(0.05)));
    }
}

/// ConfigMaps that are searched for a device plugin's configuration.
const MOST_SETTINGS: usize = 4096;

/// Whether a device plugin's configuration in the bundle shares by MPS, which splits the memory.
/// A cluster has one such configuration or a few, among thousands of other settings at most.
fn uses_mps(context: &Context<'_>) -> bool {
    context.bundle.of_kind("ConfigMap").take(MOST_SETTINGS).any(|map| {
        map.root.get("data").entries().any(|entry| {
            let text = entry.value.str();
            text.contains("sharing:") && text.contains("mps:")
        })
    })
}
