use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// All replicas on one GPU node
    ///
    /// ## What it does
    /// Looks for model servers with two or more replicas, fewer than eight GPUs each, and neither
    /// `topologySpreadConstraints` nor anti-affinity between pods. Silent where the pods choose one node
    /// by its name.
    ///
    /// ## Why it matters
    /// The scheduler spreads by default only as long as it costs nothing; image locality and free GPUs
    /// often put all replicas on one node. When that node fails or is upgraded, the service is gone.
    ///
    /// ## How to fix it
    /// Add `topologySpreadConstraints` over `kubernetes.io/hostname`.
    SRV11, Warning,
    evidence: "kubernetes/website, docs/concepts/scheduling-eviction/topology-spread-constraints, internal default constraints (ScheduleAnyway)",
    check: Check::Pod(check),
    examples: [
        Example::bad("nothing spreads them", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
", &[9]),
        Example::good("spread over nodes", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {matchLabels: {app: a}}
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("eight GPUs fill a node", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 8}}
"),
        Example::good("on a node that is named", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      nodeSelector: {kubernetes.io/hostname: gpu-7}
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let plain = matches!(pod.manager, Manager::Deployment | Manager::StatefulSet);
    let gpus = pod.gpus();
    if !pod.complete || !plain || !pod.serves() || !(1..8).contains(&gpus) {
        return;
    }
    let Some(replicas) = context.bundle.least_replicas(pod).filter(|replicas| *replicas > 1) else {
        return;
    };
    let constraints = pod.spec.get("topologySpreadConstraints");
    if !constraints.is_empty() || pod.spec.path("affinity.podAntiAffinity").is_set() {
        return;
    }
    // All on one node is what was asked for.
    if pod.node_requirements().iter().any(|label| label.key == "kubernetes.io/hostname") {
        return;
    }
    report
        .at(
            constraints,
            format!("one node's failure or upgrade may take all {replicas} replicas: nothing spreads them over nodes"),
        )
        .fix("add topologySpreadConstraints over `kubernetes.io/hostname` with whenUnsatisfiable: ScheduleAnyway")
        .edit(spread(pod));
}

/// A constraint over nodes for the workload's own selector.
fn spread(pod: &Pod<'_>) -> Option<Edit> {
    let selector = pod.object.spec().path("selector.matchLabels");
    let labels: Vec<String> = selector
        .entries()
        .map(|entry| format!("{}: {}", entry.key, entry.value.file().slice(entry.value.span())))
        .collect();
    if labels.is_empty() || pod.spec.get("topologySpreadConstraints").exists() {
        return None;
    }
    let lines = format!(
        "- maxSkew: 1\n  topologyKey: kubernetes.io/hostname\n  whenUnsatisfiable: ScheduleAnyway\n  labelSelector:\n    matchLabels:\n      {}",
        labels.join("\n      ")
    );
    Edit::insert(pod.spec, "topologySpreadConstraints", &lines)
}
