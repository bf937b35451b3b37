use super::subject::{self, KINDS};
use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Replicas are set beside an autoscaler
    ///
    /// ## What it does
    /// Looks for `replicas` in an object that an autoscaler of the same manifests scales.
    ///
    /// ## Why it matters
    /// Each `kubectl apply`, Helm upgrade or GitOps sync sets the number back, and the autoscaler
    /// changes it again. Model servers that were just loaded are stopped, and load anew minutes
    /// later.
    ///
    /// ## How to fix it
    /// Remove `replicas`. Where the object is live and applied by kubectl, remove it from the last
    /// applied configuration first (`kubectl apply edit-last-applied`), or it falls to 1 once.
    SCL05, Warning,
    evidence: "kubernetes/website docs/tasks/run-application/horizontal-pod-autoscale: migrating Deployments; argo-cd docs, best practices: leaving room for imperativeness",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("both are set", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 3
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
", &[5]),
        Example::good("the autoscaler alone", "\
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
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let Some(target) = subject.target else { return };
    let replicas = target.spec().get("replicas");
    if !replicas.is_set() {
        return;
    }
    report
        .at(
            replicas,
            format!(
                "each time this is applied it sets {} back to {} replicas, and {} `{}` changes them again",
                target.name,
                replicas.str(),
                object.kind,
                object.name
            ),
        )
        .fix("remove `replicas`");
}
