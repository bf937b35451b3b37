use crate::context::Context;
use crate::model::{Manager, Pod};
use crate::quantity::Quantity;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Large model on any GPU
    ///
    /// ## What it does
    /// Looks for servers whose weights need more memory for each GPU than small cards have, and that
    /// may run on any card: no node selector, affinity, queue or claim chooses one. The size comes
    /// from the model's name (`70B`), its precision from name and flags.
    ///
    /// ## Why it matters
    /// Where a cluster has cards of several sizes, the scheduler knows no difference between them. On
    /// a 16 GB card the load ends with "CUDA out of memory", and on the next try it may land there
    /// again.
    ///
    /// ## How to fix it
    /// Select a card that is large enough: `nvidia.com/gpu.product`,
    /// `cloud.google.com/gke-accelerator`, `karpenter.k8s.aws/instance-gpu-name`, or
    /// `nvidia.com/gpu.memory` with `Gt` in an affinity.
    GPU11, Warning,
    evidence: "judgement; sizes: 2 bytes for each parameter at 16 bits",
    check: Check::Pod(check),
    examples: [
        Example::bad("16 GB of weights", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, meta-llama/Llama-3.1-8B]
      resources: {limits: {nvidia.com/gpu: 1}}
", &[8]),
        Example::good("a card is chosen", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeSelector: {nvidia.com/gpu.product: NVIDIA-L40S}
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, meta-llama/Llama-3.1-8B]
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("a small model", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, facebook/opt-125m]
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

/// Memory that weights can take of the smallest card in wide use (T4, 16 GB), in GiB.
const SMALL_CARD_GIB: f64 = 14.0;

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let chooses = !pod.node_requirements().is_empty()
        || pod.spec.path("affinity.nodeAffinity").is_set()
        || pod.spec.get("nodeName").is_set()
        || pod.spec.get("schedulerName").is_set()
        || !pod.spec.get("resourceClaims").is_empty()
        || pod.object.label("kueue.x-k8s.io/queue-name").exists();
    // Where nodes work together, none of them holds the whole model.
    let spread = matches!(pod.manager, Manager::LeaderWorkerSet | Manager::Ray);
    if !pod.complete || chooses || spread || context.bundle.of_kind("Node").next().is_some() {
        return;
    }
    for container in pod.main_containers() {
        let gpus = container.gpus();
        let (Some(weights), true) = (container.weights(), gpus > 0) else { continue };
        let Some(bytes) = weights.bytes() else { continue };
        let each = Quantity::gibibytes(bytes.as_f64() / gpus as f64 / f64::from(1 << 30));
        if each <= Quantity::gibibytes(SMALL_CARD_GIB) {
            continue;
        }
        report
            .at_span(
                weights.node,
                weights.node.find(&weights.id),
                format!(
                    "on a card of 16 GB this model does not load: its weights are about {bytes}, {each} for each GPU, and nothing here chooses a larger card"
                ),
            )
            .fix("select the card, for example by `nvidia.com/gpu.product` in nodeSelector");
    }
}
