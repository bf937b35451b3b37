use crate::context::Context;
use crate::model::{Object, Selector};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::trn::job::is_ml;
use crate::yaml::Node;

rule! {
    /// A disruption budget that is never open at the minimum
    ///
    /// ## What it does
    /// Compares `minAvailable` of a PodDisruptionBudget with the minimum of the autoscaler of the
    /// pods that it protects.
    ///
    /// ## Why it matters
    /// At night, when the autoscaler is at its minimum, no pod may be evicted. Drains wait until
    /// somebody forces them: upgrades of nodes stand still, and autoscalers keep nodes that are
    /// nearly empty.
    ///
    /// ## How to fix it
    /// Use `maxUnavailable: 1`, which holds at any number of replicas, or lower `minAvailable`.
    SCL12, Warning,
    evidence: "kubernetes/website docs/tasks/run-application/configure-pdb; FairwindsOps/polaris checks: pdbMinAvailableGreaterThanHPAMinReplicas",
    check: Check::Objects(&["PodDisruptionBudget"], check),
    examples: [
        Example::bad("as many as the minimum", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.12.0
          args: [--model, meta-llama/Llama-3.1-8B-Instruct]
          resources:
            requests: {cpu: 4, memory: 32Gi}
            limits: {nvidia.com/gpu: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: server}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  minReplicas: 2
  maxReplicas: 4
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: server}
spec:
  minAvailable: 2
  selector: {matchLabels: {app: server}}
", &[29]),
        Example::good("fewer", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.12.0
          args: [--model, meta-llama/Llama-3.1-8B-Instruct]
          resources:
            requests: {cpu: 4, memory: 32Gi}
            limits: {nvidia.com/gpu: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: server}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  minReplicas: 3
  maxReplicas: 4
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: server}
spec:
  minAvailable: 2
  selector: {matchLabels: {app: server}}
"),
        Example::good("no autoscaler", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.12.0
          args: [--model, meta-llama/Llama-3.1-8B-Instruct]
          resources:
            requests: {cpu: 4, memory: 32Gi}
            limits: {nvidia.com/gpu: 1}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: server}
spec:
  minAvailable: 2
  selector: {matchLabels: {app: server}}
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let bundle = context.bundle;
    let spec = object.spec();
    let least = spec.get("minAvailable");
    let selector = Selector::structured(spec.get("selector"));
    if !object.is("policy", "PodDisruptionBudget") || !least.is_set() || selector.is_empty() {
        return;
    }
    let selected = bundle.pods_selected(&selector, object.namespace, object.root);
    // The pods of several objects add up, which no minimum of one tells.
    let [pod] = selected.as_slice() else { return };
    if !is_ml(pod) || bundle.distance(pod.spec, object.root) > 1 {
        return;
    }
    let Some(autoscaler) = bundle.autoscaler_of(pod) else { return };
    if bundle.distance(autoscaler.object.root, pod.spec) > 1 {
        return;
    }
    let Some(kept) = kept(least, autoscaler.min).filter(|_| autoscaler.min > 0) else { return };
    if kept < autoscaler.min {
        return;
    }
    report
        .at(
            least,
            format!(
                "at the minimum of {} `{}` ({} replicas) no pod may be evicted: drains of nodes wait until somebody forces them",
                autoscaler.object.kind, autoscaler.object.name, autoscaler.min
            ),
        )
        .fix("use `maxUnavailable: 1` in place of `minAvailable`");
}

/// Pods that must stay, of so many; a share is rounded up.
fn kept(least: Node<'_>, of: i64) -> Option<i64> {
    if let Some(count) = least.int() {
        return Some(count);
    }
    let percent: i64 = least.text()?.strip_suffix('%')?.trim().parse().ok()?;
    Some(percent.checked_mul(of)?.checked_add(99)? / 100)
}
