use super::subject::{self, KINDS};
use crate::context::Context;
use crate::model::{Autoscaler, Object};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Two autoscalers pull at one target
    ///
    /// ## What it does
    /// Looks for a second HorizontalPodAutoscaler or ScaledObject on one target in the same file,
    /// and for a VerticalPodAutoscaler that changes the requests whose share an autoscaler watches.
    ///
    /// Silent for recommenders (`updateMode: "Off"`), for autoscalers in different files, which may
    /// be alternatives, and where KEDA takes an autoscaler over.
    ///
    /// ## Why it matters
    /// Each undoes what the other did. A VPA that raises the CPU request lowers the utilisation, the
    /// HPA removes replicas, load rises. KEDA's webhook refuses the second object.
    ///
    /// ## How to fix it
    /// Keep one; let the VPA control what the HPA does not watch (`controlledResources`).
    SCL04, Error,
    evidence: "kubernetes/autoscaler vertical-pod-autoscaler/docs/known-limitations.md; kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go: verifyHpas, verifyScaledObjects",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("a VPA on CPU", "\
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
---
apiVersion: autoscaling.k8s.io/v1
kind: VerticalPodAutoscaler
metadata: {name: server}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
", &[26]),
        Example::bad("KEDA and an HPA", "\
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
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef:
    name: server
  minReplicaCount: 1
  triggers: []
", &[28]),
        Example::good("a VPA that recommends", "\
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
---
apiVersion: autoscaling.k8s.io/v1
kind: VerticalPodAutoscaler
metadata: {name: server}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  updatePolicy: {updateMode: 'Off'}
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let own = subject.autoscaler;
    let Some(target) = subject.target else { return };
    let bundle = context.bundle;
    // The later of two is told, once.
    let earlier = bundle
        .autoscalers_of(target)
        .filter(|other| other.object.index < object.index)
        .find(|other| bundle.distance(other.object.root, object.root) == 0);
    if let Some(other) = earlier
        && !takes_over(&own, &other)
        && !takes_over(&other, &own)
    {
        report
            .at(
                own.target,
                format!(
                    "a second autoscaler, {} `{}`, scales {} `{}` too: each undoes what the other did, and KEDA refuses the second",
                    other.object.kind, other.object.name, target.kind, target.name
                ),
            )
            .fix("keep one of them, with the metrics of both");
    }
    let mut verticals = bundle.in_namespace("VerticalPodAutoscaler", target.namespace, target.root);
    let vertical = verticals.find(|vertical| {
        let reference = vertical.spec().get("targetRef");
        reference.get("kind").is(target.kind)
            && reference.get("name").is(target.name)
            && vertical.may_share_namespace(object)
            && bundle.distance(vertical.root, object.root) <= 1
    });
    let Some(vertical) = vertical.filter(|vertical| changes_requests(vertical)) else { return };
    for metric in subject.metrics.iter().filter(|metric| metric.is_resource()) {
        if !controls(vertical, metric.name) {
            continue;
        }
        report
            .at(
                metric.node,
                format!(
                    "the {} request of the same pods is changed by VerticalPodAutoscaler `{}`: each undoes what the other did",
                    metric.name, vertical.name
                ),
            )
            .fix("scale on another metric, or take this resource out of the VPA's `controlledResources`");
    }
}

/// Whether a ScaledObject is told to take over an HPA.
fn takes_over(scaled: &Autoscaler<'_>, other: &Autoscaler<'_>) -> bool {
    let name = scaled.object.spec().path("advanced.horizontalPodAutoscalerConfig.name");
    scaled.object.annotation("scaledobject.keda.sh/transfer-hpa-ownership").is("true")
        && (!name.is_set() || name.is(other.object.name))
}

fn changes_requests(vertical: &Object<'_>) -> bool {
    // A plain Off is a truth value of YAML 1.1, and a text here.
    !matches!(vertical.spec().path("updatePolicy.updateMode").str(), "Off" | "off" | "false")
}

fn controls(vertical: &Object<'_>, resource: &str) -> bool {
    let policies = vertical.spec().path("resourcePolicy.containerPolicies");
    policies.is_empty()
        || policies.items().any(|policy| {
            let listed = policy.get("controlledResources");
            !policy.get("mode").is("Off")
                && (!listed.exists() || listed.items().any(|item| item.is(resource)))
        })
}
