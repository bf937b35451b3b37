use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Manager, Pod, Purpose, Vendor};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::settings::Profile;
use crate::trn::job;

rule! {
    /// GPU request without a toleration for the GPU taint
    ///
    /// ## What it does
    /// Looks for a toleration of `nvidia.com/gpu` (or what the profile's GPU nodes are tainted
    /// with) on pods that ask for NVIDIA GPUs.
    ///
    /// Silent under profile `gke` and for pods that select nodes by a label of GKE, where an admission
    /// plugin adds the toleration; for pods in a queue of Kueue, whose flavours add theirs; and where
    /// the bundle holds Nodes or node pools without that taint.
    ///
    /// ## Why it matters
    /// GPU nodes are usually tainted so that other pods stay away. Without the toleration the pod
    /// stays `Pending` though GPUs are free.
    ///
    /// ## How to fix it
    /// Tolerate the taint. On nodes without the taint the toleration does nothing.
    GPU08, Warning,
    evidence: "NVIDIA/gpu-operator and NVIDIA/k8s-device-plugin tolerate nvidia.com/gpu:NoSchedule by default; kubernetes/website, admission-controllers: ExtendedResourceToleration",
    check: Check::Pod(check),
    examples: [
        Example::bad("no toleration", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 1
", &[10]),
        Example::good("on GKE", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 1
").on(Profile::Gke),
        Example::good("the toleration is there", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  tolerations:
    - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 1
"),
        Example::good("GKE's label chooses the node", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {cloud.google.com/gke-accelerator: nvidia-l4}
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 1
"),
        Example::good("a queue's flavour tolerates the taint", "\
apiVersion: batch/v1
kind: Job
metadata:
  name: a
  labels: {kueue.x-k8s.io/queue-name: team-a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

/// What labels of GKE's nodes start with.
const GKE: &str = "cloud.google.com/";

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let facts = context.facts();
    // Elsewhere tolerations may be merged in, and system pods are written for their nodes.
    if facts.lint.adds_gpu_tolerations || !pod.complete || pod.purpose == Purpose::System {
        return;
    }
    let asks = pod.devices().find(|(_, device)| device.vendor == Vendor::Nvidia && device.is_gpu());
    let Some((_, device)) = asks else { return };
    if facts.gpu_tolerations.iter().any(|known| pod.tolerates(&known.key)) {
        return;
    }
    let on_gke = pod.node_requirements().iter().any(|label| label.key.starts_with(GKE));
    // Queues put tolerations in from their flavours; a node that is chosen by name has been seen.
    if on_gke
        || job::queue(pod).is_set()
        || pod.spec.get("nodeName").is_set()
        || context.bundle.has_untainted_gpu_node()
    {
        return;
    }
    let taint = facts.gpu_tolerations.first().map_or("nvidia.com/gpu", |known| &known.key);
    let wait = if pod.manager == Manager::Pod { "the pod stays" } else { "pods stay" };
    report
        .at(
            device.node(),
            format!(
                "{wait} Pending where GPU nodes carry the usual taint `{taint}`: nothing here tolerates it"
            ),
        )
        .fix(format!("add the toleration {{key: {taint}, operator: Exists, effect: NoSchedule}}"))
        .edit(toleration(pod, taint));
}

fn toleration(pod: &Pod<'_>, taint: &str) -> Option<Edit> {
    let list = pod.spec.get("tolerations");
    if list.exists() {
        let item = format!("key: {taint}\noperator: Exists\neffect: NoSchedule");
        return Edit::prepend(list, &item).or_else(|| {
            let item = format!("{{key: {taint}, operator: Exists, effect: NoSchedule}}");
            Edit::prepend(list, &item)
        });
    }
    let value = format!("- key: {taint}\n  operator: Exists\n  effect: NoSchedule");
    Edit::insert(pod.spec, "tolerations", &value)
}
