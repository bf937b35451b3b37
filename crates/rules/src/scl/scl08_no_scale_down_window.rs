use super::subject::{self, KINDS};
use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Slow starters are stopped at the first lull
    ///
    /// ## What it does
    /// Looks at autoscalers of GPU and model servers that say nothing of scaling down, and at those
    /// whose stabilisation window is shorter than a minute or than the model takes to load.
    ///
    /// ## Why it matters
    /// Unless told otherwise, all replicas that are too many go at once after five minutes of less
    /// load. Each takes minutes to load its model when load comes back, and users wait.
    ///
    /// ## How to fix it
    /// Set `behavior.scaleDown.stabilizationWindowSeconds` to several load times, and a policy of one
    /// pod at a time.
    SCL08, Warning,
    evidence: "kubernetes/website docs/tasks/run-application/horizontal-pod-autoscale: default behaviour (300 s, 100 percent); 22 of 24 autoscalers of public samples have none (own count)",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("nothing is said", "\
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
", &[20]),
        Example::bad("half a minute", "\
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
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 30
", &[25]),
        Example::good("ten minutes", "\
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
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 600
"),
        Example::good("one replica comes and goes", "\
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
  minReplicas: 1
  maxReplicas: 2
"),
        Example::good("one at a time", "\
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
  behavior:
    scaleDown:
      policies: [{type: Pods, value: 1, periodSeconds: 300}]
"),
    ],
}

/// Shorter than this no model server of any size starts.
const SHORTEST: i64 = 60;

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let down = subject.scale_down();
    // A target that is not here serves, since its metric is a model server's.
    let server = subject.server();
    let slow = subject.target.is_none()
        || server.is_some_and(|pod| {
            pod.has_accelerator()
                || pod.server().is_some_and(|container| container.weights().is_some())
        });
    if !slow || down.get("selectPolicy").is("Disabled") {
        return;
    }
    let window = down.get("stabilizationWindowSeconds");
    if !window.is_set() {
        // Where one replica is all that comes and goes, the default already stops one at a time.
        let steps = subject.autoscaler.max.map(|max| max.saturating_sub(subject.autoscaler.min));
        if !down.get("policies").is_empty() || steps.is_some_and(|steps| steps <= 1) {
            return;
        }
        let behavior = subject.behavior();
        let node = if behavior.is_set() { behavior } else { object.spec().get("behavior") };
        report
            .at(
                node,
                "after five minutes of less load all replicas that are too many stop at once (the default), and each loads its model anew when load comes back",
            )
            .fix("set `behavior.scaleDown` with a stabilisation window of several load times, and one pod at a time");
        return;
    }
    let load = server.and_then(subject::load_seconds).unwrap_or(0);
    let needed = load.max(SHORTEST);
    if window.int().is_some_and(|seconds| seconds < needed) {
        report
            .at(
                window,
                format!(
                    "a lull of {} s stops replicas that take about {needed} s to load when load comes back",
                    window.str()
                ),
            )
            .fix(format!("set it to several load times, {} or more", needed.saturating_mul(3).max(300)));
    }
}
