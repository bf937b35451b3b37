use super::load_time;
use crate::context::Context;
use crate::model::{Container, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Model server without a readiness probe
    ///
    /// ## What it does
    /// Looks for model servers in Deployments, StatefulSets and Pods that are called over the network
    /// and have no readiness probe. Kinds whose operator sets probes (KServe, Ray) are left out.
    ///
    /// ## Why it matters
    /// Without a readiness probe a pod counts as ready as soon as its process runs. Requests reach it
    /// minutes before the model is loaded, and every rollout answers with errors.
    ///
    /// ## How to fix it
    /// Add a readinessProbe on an endpoint that answers only once the model is loaded, such as
    /// `/health` (vLLM) or `/v2/health/ready` (Triton).
    SRV03, Warning,
    evidence: "kubernetes/website, docs/concepts/workloads/pods/pod-lifecycle, container probes",
    check: Check::Container(check),
    examples: [
        Example::bad("no probe", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{containerPort: 8000}]
", &[6]),
        Example::good("a probe", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{containerPort: 8000}]
      readinessProbe: {httpGet: {path: /health, port: 8000}}
"),
        Example::good("nobody calls it", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b]
"),
        Example::good("a console with a GPU", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: a:1
          ports: [{containerPort: 22}]
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let plain = matches!(
        pod.manager,
        Manager::Deployment | Manager::StatefulSet | Manager::ReplicaSet | Manager::Pod
    );
    let readiness = container.probe("readinessProbe");
    if !pod.complete || !plain || readiness.is_set() || !load_time::is_server(pod, container) {
        return;
    }
    let called =
        container.ports().next().is_some() || context.bundle.services_of(pod).next().is_some();
    if !called {
        return;
    }
    report
        .at(
            readiness,
            format!("requests reach `{}` before its model is loaded: without a readiness probe it counts as ready as soon as the process runs", container.name),
        )
        .fix("add a readinessProbe on an endpoint that answers only once the model is loaded");
}
