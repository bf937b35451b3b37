use super::subject;
use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Scaled to zero sooner than a model loads
    ///
    /// ## What it does
    /// Looks at ScaledObjects that scale model servers to zero, and compares `cooldownPeriod` with
    /// the time that the model takes to load, as far as its name tells its size.
    ///
    /// ## Why it matters
    /// A pause between two questions stops the server. The next one waits for a load that is longer
    /// than the pause was: the service spends its time starting.
    ///
    /// ## How to fix it
    /// Set `cooldownPeriod` to several load times; KEDA's default is 300 s.
    SCL11, Warning,
    evidence: "keda.sh docs, ScaledObject specification: cooldownPeriod; load time from the size of the weights at 500 MB/s: judgement",
    check: Check::Objects(&["ScaledObject"], check),
    examples: [
        Example::bad("ten seconds", "\
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
  minReplicaCount: 0
  cooldownPeriod: 10
  triggers:
    - type: prometheus
      metadata: {query: 'sum(vllm:num_requests_waiting)', threshold: '5', serverAddress: 'http://p'}
", &[23]),
        Example::good("the default", "\
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
  minReplicaCount: 0
  triggers:
    - type: prometheus
      metadata: {query: 'sum(vllm:num_requests_waiting)', threshold: '5', serverAddress: 'http://p'}
"),
        Example::good("never at zero", "\
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
  cooldownPeriod: 10
  triggers:
    - type: prometheus
      metadata: {query: 'sum(vllm:num_requests_waiting)', threshold: '5', serverAddress: 'http://p'}
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let spec = object.spec();
    let idle = spec.get("idleReplicaCount").int() == Some(0);
    if object.group() != "keda.sh" || !(subject.autoscaler.min == 0 || idle) {
        return;
    }
    let cooldown = spec.get("cooldownPeriod");
    let seconds = if cooldown.is_set() { cooldown.int() } else { Some(300) };
    let Some(server) = subject.server().filter(|pod| pod.has_accelerator()) else { return };
    let (Some(seconds), Some(load)) = (seconds, subject::load_seconds(server)) else { return };
    if seconds >= load {
        return;
    }
    report
        .at(
            cooldown,
            format!(
                "after {seconds} s without requests {} stops, and it takes about {load} s to load: it spends its time starting",
                server.describe()
            ),
        )
        .fix(format!("set `cooldownPeriod` to several load times, {} or more", load.saturating_mul(3).max(300)));
}
