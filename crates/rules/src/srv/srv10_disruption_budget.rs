use crate::context::Context;
use crate::model::{Manager, Object, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// No disruption budget, or one that blocks every drain
    ///
    /// ## What it does
    /// Looks for model servers with two or more replicas that no PodDisruptionBudget protects, and for
    /// budgets that allow no pod to be away (`maxUnavailable: 0`, or `minAvailable` not below the
    /// replicas). Budgets against an autoscaler's minimum are SCL12's. Silent about missing budgets
    /// where the pods choose one node by its name: its drain would never end.
    ///
    /// ## Why it matters
    /// Without a budget a node upgrade may evict all replicas at once, and each loads for minutes.
    /// With a budget that allows nothing, a drain waits for ever, and so does the upgrade.
    ///
    /// ## How to fix it
    /// Add a PodDisruptionBudget with `maxUnavailable: 1` for the same labels.
    SRV10, Warning,
    evidence: "kubernetes/website, docs/tasks/run-application/configure-pdb",
    check: Check::Pod(check),
    examples: [
        Example::bad("no budget", "\
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
", &[3]),
        Example::bad("a budget that allows nothing", "\
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
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: a}
spec:
  minAvailable: 2
  selector: {matchLabels: {app: a}}
", &[19]),
        Example::good("one may be away", "\
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
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: a}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: a}}
"),
        Example::good("one replica", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 1
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
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
    if !pod.complete || !plain || !pod.serves() {
        return;
    }
    let Some(replicas) = context.bundle.least_replicas(pod).filter(|replicas| *replicas > 0) else {
        return;
    };
    if let Some(budget) = context.bundle.disruption_budget_of(pod) {
        let scaled = context.bundle.autoscaler_of(pod).is_some();
        if let Some(node) = blocks(budget, replicas).filter(|_| !scaled) {
            report
                .at(node, format!("drains and node upgrades wait for ever: of the {replicas} replicas of {} none may be away", pod.describe()))
                .fix("set `maxUnavailable: 1` in place of minAvailable");
        }
        return;
    }
    let one_node =
        pod.node_requirements().iter().any(|label| label.key == "kubernetes.io/hostname");
    if replicas < 2 || one_node {
        return;
    }
    report
        .at(
            pod.object.metadata().get("name"),
            format!("a node upgrade may evict all {replicas} replicas at once, and each takes minutes to load: no PodDisruptionBudget selects them"),
        )
        .fix("add a PodDisruptionBudget with `maxUnavailable: 1` for the pod's labels");
}

/// The field of a budget by which no pod may be away.
fn blocks<'b>(budget: &Object<'b>, replicas: i64) -> Option<Node<'b>> {
    let (least, most) = (budget.spec().get("minAvailable"), budget.spec().get("maxUnavailable"));
    let count = |node: Node<'_>| match node.text()?.strip_suffix('%') {
        // Percentages are rounded up, for both.
        Some(percent) => {
            Some((percent.parse::<i64>().ok()?.checked_mul(replicas)?.saturating_add(99)) / 100)
        }
        None => node.text()?.parse().ok(),
    };
    if count(least).is_some_and(|count| count >= replicas) {
        return Some(least);
    }
    (count(most) == Some(0)).then_some(most)
}
