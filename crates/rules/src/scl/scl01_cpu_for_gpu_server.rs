use super::subject::{self, KINDS};
use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// CPU or memory decides the number of GPU servers
    ///
    /// ## What it does
    /// Looks at autoscalers (HorizontalPodAutoscaler, KEDA's ScaledObject) that watch CPU and memory
    /// alone, of pods that ask for accelerators and serve.
    ///
    /// Silent where another metric is watched beside, and for targets that are not in sight.
    ///
    /// ## Why it matters
    /// A model server waits for its GPU: CPU stays low while requests queue, or high (busy polling)
    /// while nothing is to do. Replicas come too late or never, or never go.
    ///
    /// ## How to fix it
    /// Scale on what is waiting: `vllm:num_requests_waiting`, requests in flight, queue time.
    SCL01, Warning,
    evidence: "docs.vllm.ai, metrics; cloud.google.com/kubernetes-engine, best practices for autoscaling LLM inference on GPUs; 11 of 24 autoscalers of public GPU samples (own count)",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("CPU", "\
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
        target: {type: Utilization, averageUtilization: 70}
", &[26]),
        Example::bad("KEDA's CPU trigger", "\
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
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  minReplicaCount: 1
  triggers:
    - type: cpu
      metricType: Utilization
      metadata: {value: '70'}
", &[24]),
        Example::good("what is waiting", "\
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
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let Some(server) = subject.server().filter(|pod| pod.has_accelerator()) else { return };
    let Some(first) = subject.metrics.first() else { return };
    if subject.metrics.iter().any(|metric| !metric.is_resource()) {
        return;
    }
    let silent = match (first.name, subject.metrics.len()) {
        (_, 2..) => "neither CPU nor memory shows",
        ("memory", _) => "memory does not show",
        _ => "CPU does not show",
    };
    report
        .at(
            first.node,
            format!(
                "what keeps {} busy is its accelerator, which {silent}: replicas come too late or never",
                server.describe()
            ),
        )
        .fix("scale on what is waiting, such as `vllm:num_requests_waiting` or requests in flight");
}
