use super::job;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::settings::Profile;

rule! {
    /// Training that an autoscaler may move
    ///
    /// ## What it does
    /// Looks at training jobs with accelerators whose pods carry neither
    /// `cluster-autoscaler.kubernetes.io/safe-to-evict: "false"` nor
    /// `karpenter.sh/do-not-disrupt: "true"`.
    ///
    /// Silent where a disruption budget forbids to evict them, on TPU slices, and for tests.
    ///
    /// ## Why it matters
    /// Cluster Autoscaler and Karpenter empty nodes that they find too little used, or that they can
    /// replace by cheaper ones. A job of hours starts anew, or from its last checkpoint.
    ///
    /// ## How to fix it
    /// Add the annotation of your autoscaler to the pod template. Nodes are then kept until the job
    /// is done.
    TRN18, Warning,
    evidence: "kubernetes/autoscaler cluster-autoscaler/FAQ.md: safe-to-evict; karpenter.sh, disruption: pod-level controls",
    check: Check::Pod(check),
    examples: [
        Example::bad("nothing holds it in place", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    metadata:
      labels: {app: a}
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
", &[6]),
        Example::bad("Karpenter's cluster", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    metadata:
      annotations:
        team: nlp
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
", &[7]).on(Profile::Eks),
        Example::good("it is not to be evicted", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    metadata:
      annotations:
        cluster-autoscaler.kubernetes.io/safe-to-evict: 'false'
    spec:
      containers:
        - name: main
          image: a:1
          command: [python, train.py]
          resources:
            limits: {nvidia.com/gpu: 1}
"),
        Example::good("a measurement that a launcher starts", "\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: a}
spec:
  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          containers:
            - name: main
              image: a:1
              command: [bash, -c]
              args:
                - mpirun -np 16 -x NCCL_SOCKET_IFNAME=eth0 /opt/build/all_reduce_perf -b 1G
    Worker:
      replicas: 2
      template:
        spec:
          hostNetwork: true
          containers:
            - name: main
              image: a:1
              securityContext: {privileged: true}
              resources: {limits: {nvidia.com/gpu: 4}}
"),
    ],
}

const AUTOSCALER: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
const KARPENTER: [&str; 2] = ["karpenter.sh/do-not-disrupt", "karpenter.sh/do-not-evict"];

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let gpus = pod.devices().any(|(_, device)| device.name != "google.com/tpu");
    let kind = job::runs_to_end(pod) && pod.manager != Manager::Ray;
    if !kind || !pod.complete || !gpus || !job::trains(pod) {
        return;
    }
    let marked = pod.annotation(AUTOSCALER).is_set()
        || KARPENTER.iter().any(|key| pod.annotation(key).is_set());
    if marked
        || job::measures_devices(context, pod)
        || context.bundle.disruption_budget_of(pod).is_some()
        || is_later_of_its_kind(context, pod)
    {
        return;
    }
    let on_karpenter = context.profile == Profile::Eks
        || pod.node_requirements().iter().any(|label| label.key.contains("karpenter"))
        || context.bundle.near("NodePool", pod.spec).any(|pool| pool.group() == "karpenter.sh");
    let (who, key, value) = if on_karpenter {
        ("Karpenter", KARPENTER[0], "true")
    } else {
        ("Cluster Autoscaler or Karpenter", AUTOSCALER, "false")
    };
    let annotations = pod.metadata.get("annotations");
    let edit = if annotations.is_map() {
        Edit::insert(annotations, key, &format!("\"{value}\""))
    } else if pod.metadata.is_map() && !annotations.exists() {
        Edit::insert(pod.metadata, "annotations", &format!("{{{key}: \"{value}\"}}"))
    } else {
        None
    };
    report
        .at(
            annotations,
            format!(
                "where {who} manages nodes, it may evict {} to save a node, and the work since the last checkpoint is lost",
                pod.describe()
            ),
        )
        .fix(format!("add the annotation `{key}: \"{value}\"` to the pod template"))
        .edit(edit);
}

/// Whether an earlier template of the object is told already.
fn is_later_of_its_kind(context: &Context<'_>, pod: &Pod<'_>) -> bool {
    context
        .bundle
        .pods_of(&pod.object)
        .take_while(|other| other.index < pod.index)
        .any(|other| other.has_accelerator() && job::trains(other))
}
