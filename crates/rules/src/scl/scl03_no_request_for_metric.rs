use super::subject::{self, KINDS, Metric, MetricKind};
use crate::context::Context;
use crate::model::{Container, Object, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// A share of a request that is not made
    ///
    /// ## What it does
    /// Looks at autoscalers with a utilisation target for CPU or memory, and at the containers whose
    /// share it is: each needs a request (or limit) for that resource.
    ///
    /// Silent where a LimitRange in the namespace may add requests, where the target is not in sight
    /// or completed elsewhere.
    ///
    /// ## Why it matters
    /// Utilisation is usage divided by the request. If one container has none, the autoscaler
    /// reports `FailedGetResourceMetric: missing request` and does not scale at all.
    ///
    /// ## How to fix it
    /// Set the request in every container, or use `AverageValue`, or a `ContainerResource` metric
    /// of one container.
    SCL03, Error,
    evidence: "kubernetes/website docs/tasks/run-application/horizontal-pod-autoscale: how it works; kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("no CPU request", "\
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
          resources:
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
", &[24]),
        Example::good("a request", "\
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
"),
        Example::good("an amount", "\
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
        target: {type: AverageValue, averageValue: 2}
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let limits = context.bundle.in_namespace("LimitRange", object.namespace, object.root).next();
    if limits.is_some() {
        return;
    }
    for metric in &subject.metrics {
        let missing = subject
            .pods
            .iter()
            .filter(|pod| pod.complete)
            .find_map(|pod| Some((pod, missing(pod, metric)?)));
        let Some((pod, container)) = missing else { continue };
        report
            .at(
                metric.node,
                format!(
                    "the autoscaler fails with `missing request for {}`: container `{}` of {} asks for none, of which this would be the share",
                    metric.name,
                    container.name,
                    pod.describe()
                ),
            )
            .fix(format!("set `requests.{}` in every container of the pod", metric.name));
    }
}

/// The first container whose share a metric is, and that has no request.
fn missing<'a, 'b>(pod: &'a Pod<'b>, metric: &Metric<'_>) -> Option<&'a Container<'b>> {
    let MetricKind::Resource { is_share_of_request: true, container: only } = metric.kind else {
        return None;
    };
    // Resources of the pod as a whole stand in for those of its containers.
    if pod.spec.get("resources").is_set() {
        return None;
    }
    pod.main_containers().filter(|container| only.is_none_or(|name| container.name == name)).find(
        |container| {
            let resources = container.resources();
            !resources.get("requests").get(metric.name).is_set()
                && !resources.get("limits").get(metric.name).is_set()
        },
    )
}
