use super::load_time;
use crate::context::Context;
use crate::model::{Container, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Rollout that is called failed while the model loads
    ///
    /// ## What it does
    /// Compares `progressDeadlineSeconds` of Deployments with what the startup probe allows, where
    /// both are set, and the deadline (600 s where unset) with the time that weights of a known
    /// size usually take, at 200 MB/s.
    ///
    /// ## Why it matters
    /// A rollout whose pod is still loading at the deadline is reported as failed: pipelines stop or
    /// roll back, though nothing is wrong.
    ///
    /// ## How to fix it
    /// Set `progressDeadlineSeconds` above what the startup probe allows.
    SRV07, Warning,
    evidence: "kubernetes/website, docs/concepts/workloads/controllers/deployment, progress deadline seconds",
    check: Check::Container(check),
    examples: [
        Example::bad("20 minutes to start, 10 to progress", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 4
  progressDeadlineSeconds: 600
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          startupProbe:
            httpGet: {path: /health, port: 8000}
            failureThreshold: 120
          resources: {limits: {nvidia.com/gpu: 1}}
", &[6]),
        Example::good("an hour to progress", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 4
  progressDeadlineSeconds: 3600
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          startupProbe:
            httpGet: {path: /health, port: 8000}
            failureThreshold: 120
          resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::bad("a deadline of a minute", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 4
  progressDeadlineSeconds: 60
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          args: [--model, meta-llama/Llama-3.1-70B]
          readinessProbe: {httpGet: {path: /health, port: 8000}}
          resources: {limits: {nvidia.com/gpu: 1}}
", &[6]),
        Example::good("ready as soon as it runs, without a probe", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 4
  progressDeadlineSeconds: 60
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          args: [--model, meta-llama/Llama-3.1-70B]
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

/// Kubernetes' default.
const DEFAULT: i64 = 600;

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !pod.complete || pod.manager != Manager::Deployment || !load_time::is_server(pod, container)
    {
        return;
    }
    // Without a probe a pod is ready, and the rollout done, while the model still loads (SRV03).
    if !container.probe("readinessProbe").is_set() && !container.probe("startupProbe").is_set() {
        return;
    }
    let node = pod.object.spec().get("progressDeadlineSeconds");
    let deadline = node.int().unwrap_or(DEFAULT);
    let probe = container.probe("startupProbe");
    // A patient probe beside the default says little; beside a deadline that was chosen, the two
    // contradict each other.
    let allowed = if probe.is_map() && node.is_set() { load_time::budget(probe) } else { 0 };
    let needed = load_time::usually(container).unwrap_or_default();
    let why = if allowed > deadline {
        format!("the startup probe allows {allowed} s")
    } else if needed > deadline as f64 {
        format!("the weights take about {needed:.0} s at 200 MB/s")
    } else {
        return;
    };
    report
        .at(
            node,
            format!("a rollout is reported as failed while the model still loads: {why}, and the progress deadline is {deadline} s"),
        )
        .fix(format!("set progressDeadlineSeconds above {}", allowed.max(needed as i64)));
}
