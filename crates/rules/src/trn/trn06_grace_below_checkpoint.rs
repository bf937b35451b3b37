use super::job;
use crate::context::Context;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::settings::Profile;

rule! {
    /// Time to stop that does not fit a checkpoint
    ///
    /// ## What it does
    /// Compares the `terminationGracePeriodSeconds` of a training pod with what it needs and what
    /// it can get: with the time to write a checkpoint, where the size of the model is known and
    /// something shows that one is written on the way out (a `preStop` hook, a trap, a grace period
    /// that was chosen); with the notice of spot nodes; and with the 600 seconds after which Cluster
    /// Autoscaler ends what it drains.
    ///
    /// ## Why it matters
    /// A pod that is still writing when its time is up is killed. The checkpoint is torn, and the
    /// work since the one before is lost.
    ///
    /// ## How to fix it
    /// Give as much time as the checkpoint takes, and write in the background more often where a
    /// node gives less.
    TRN06, Warning,
    evidence: "kubernetes/autoscaler cluster-autoscaler/FAQ.md: max-graceful-termination-sec (600); EC2 user guide, Spot interruption notices (120 s); Google Cloud and Azure, Spot VMs (30 s); 12 bytes a parameter and 1 GB/s: judgement",
    check: Check::Pod(check),
    examples: [
        Example::bad("more than Cluster Autoscaler waits", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 3600
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
", &[7]),
        Example::bad("a checkpoint of 840 GB in a minute", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 60
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py, --model-name-or-path=meta-llama/Llama-3.1-70B]
          resources:
            limits: {nvidia.com/gpu: 8}
", &[7]),
        Example::good("a small model", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 60
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py, --model-name-or-path=google/gemma-2b]
          resources:
            limits: {nvidia.com/gpu: 8}
"),
        Example::good("a node that is not drained under it", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    metadata:
      annotations:
        cluster-autoscaler.kubernetes.io/safe-to-evict: 'false'
    spec:
      terminationGracePeriodSeconds: 3600
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
"),
    ],
}

/// Seconds that Cluster Autoscaler waits for pods of a node that it removes, unless told otherwise.
const AUTOSCALER: i64 = 600;
/// The longest notice that a cloud gives of taking back a spot node.
const LONGEST_NOTICE: i64 = 120;
/// Weights in 16 bits, and in 32 bits a copy of them and Adam's two moments, less what is sharded
/// away or left out: between 10 and 14 bytes a parameter.
const BYTES_PER_PARAMETER: f64 = 12.0;
/// A good network file system, written by one pod.
const BYTES_PER_SECOND: f64 = 1e9;

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if pod.manager == Manager::Ray || !job::trains(pod) || !pod.has_accelerator() {
        return;
    }
    let node = pod.spec.get("terminationGracePeriodSeconds");
    let chosen = if node.is_set() { node.int() } else { None };
    let grace = chosen.unwrap_or(30);
    if job::spot(pod).is_some() && grace > LONGEST_NOTICE {
        report
            .at(
                node,
                format!(
                    "the pod counts on {grace} s to stop, and a spot node is gone after at most {LONGEST_NOTICE} s (30 s on Google Cloud and Azure): a checkpoint that takes longer is torn"
                ),
            )
            .fix("write checkpoints often enough that a lost one does not matter, and count on the notice alone");
        return;
    }
    if let Some((bytes, seconds)) = checkpoint(pod)
        && grace < seconds
        && (chosen.is_some() || saves_on_the_way_out(pod))
    {
        let gigabytes = bytes / 1e9;
        report
            .at(
                node,
                format!(
                    "a checkpoint of this model has about {gigabytes:.0} GB and takes about {seconds} s to write at 1 GB/s, and the pod is killed {grace} s after it is told to stop"
                ),
            )
            .fix(format!("set `terminationGracePeriodSeconds` to {} or more", seconds.saturating_mul(3) / 2));
        return;
    }
    if grace > AUTOSCALER && context.profile != Profile::Gke && !is_kept_in_place(pod) {
        report
            .at(
                node,
                format!(
                    "pods of a node that Cluster Autoscaler removes are killed after {AUTOSCALER} s (`--max-graceful-termination-sec`), whatever they ask for: of these {grace} s the rest is not given"
                ),
            )
            .fix("keep the node with `cluster-autoscaler.kubernetes.io/safe-to-evict: \"false\"`, or raise `--max-graceful-termination-sec`");
    }
}

/// Bytes and seconds of a full checkpoint of the model that is trained, where its size is known.
fn checkpoint(pod: &Pod<'_>) -> Option<(f64, i64)> {
    // Adapters are small.
    let adapters = ["lora", "peft", "adapter", "qlora"];
    let has_adapters = pod.main_containers().any(|container| {
        job::texts(container).any(|text| {
            let text = text.to_ascii_lowercase();
            adapters.iter().any(|word| text.contains(word))
        })
    });
    if has_adapters {
        return None;
    }
    let parameters = pod
        .main_containers()
        .filter_map(|container| container.weights()?.parameters)
        .fold(0.0, f64::max);
    let bytes = parameters * BYTES_PER_PARAMETER;
    (parameters > 0.0).then(|| (bytes, (bytes / BYTES_PER_SECOND).ceil() as i64))
}

fn saves_on_the_way_out(pod: &Pod<'_>) -> bool {
    pod.main_containers().any(|container| {
        container.node.path("lifecycle.preStop").is_set()
            || container.flag(&["--exit-signal-handler"]).is_some()
            || job::texts(container).any(|text| text.contains("trap ") && text.contains("TERM"))
    })
}

fn is_kept_in_place(pod: &Pod<'_>) -> bool {
    pod.annotation("cluster-autoscaler.kubernetes.io/safe-to-evict").is("false")
        || pod.annotation("karpenter.sh/do-not-disrupt").is("true")
        // Karpenter waits as long as a pod asks for.
        || pod.node_requirements().iter().any(|label| label.key.contains("karpenter"))
}
