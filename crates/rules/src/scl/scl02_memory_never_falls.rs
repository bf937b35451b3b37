use super::subject::{self, KINDS};
use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Memory decides the number of model servers
    ///
    /// ## What it does
    /// Looks for a memory metric in autoscalers of pods that serve models.
    ///
    /// ## Why it matters
    /// A server that has loaded its model holds its memory, busy or not. Once the value is above the
    /// target, replicas rise to the maximum and stay there; below it, they never rise.
    ///
    /// ## How to fix it
    /// Remove the metric, and scale on requests.
    SCL02, Warning,
    evidence: "kubernetes/kubernetes#95762; jaseci-labs/jaseci#9055 (replicas pinned at the maximum)",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("memory beside another metric", "\
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
  maxReplicas: 4
  metrics:
    - type: Pods
      pods:
        metric: {name: vllm_num_requests_waiting}
        target: {type: AverageValue, averageValue: 5}
    - type: Resource
      resource:
        name: memory
        target: {type: Utilization, averageUtilization: 80}
", &[30]),
        Example::good("CPU", "\
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
  maxReplicas: 4
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: 80}
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let Some(server) = subject.server() else { return };
    for metric in subject.metrics.iter().filter(|metric| metric.is_resource()) {
        if metric.name != "memory" {
            continue;
        }
        report
            .at(
                metric.node,
                format!(
                    "once its model is loaded, {} holds its memory, busy or not: replicas rise to the maximum and stay, or never rise",
                    server.describe()
                ),
            )
            .fix("remove the memory metric, and scale on requests");
    }
}
