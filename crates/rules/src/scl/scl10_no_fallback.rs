use super::subject;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// No number of replicas for when metrics are away
    ///
    /// ## What it does
    /// Looks at ScaledObjects of model servers that watch something outside (Prometheus, a queue)
    /// and have no `fallback`.
    ///
    /// Silent for triggers that KEDA cannot fall back from: `cpu`, `memory`, and utilisation values.
    ///
    /// ## Why it matters
    /// While Prometheus is away, KEDA cannot tell load. The number of replicas freezes at what it
    /// was, be it one at the start of the day, or drops to zero.
    ///
    /// ## How to fix it
    /// Set `fallback` with the replicas that carry a usual day.
    SCL10, Warning,
    evidence: "keda.sh docs, ScaledObject specification: fallback",
    check: Check::Objects(&["ScaledObject"], check),
    examples: [
        Example::bad("Prometheus alone", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  minReplicaCount: 1
  maxReplicaCount: 8
  triggers:
    - type: prometheus
      metadata: {query: 'sum(vllm:num_requests_waiting)', threshold: '5', serverAddress: 'http://p'}
", &[4]),
        Example::good("a fallback", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  minReplicaCount: 1
  fallback: {failureThreshold: 3, replicas: 4}
  triggers:
    - type: prometheus
      metadata: {query: 'sum(vllm:num_requests_waiting)', threshold: '5', serverAddress: 'http://p'}
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    if object.group() != "keda.sh" || object.spec().get("fallback").is_set() {
        return;
    }
    let Some(subject) = subject::read(context, object) else { return };
    let outside = object.spec().get("triggers").items().find(|trigger| {
        !matches!(trigger.get("type").str(), "cpu" | "memory" | "cron" | "")
            && !matches!(trigger.get("metricType").str(), "Utilization" | "Value")
    });
    let Some(trigger) = outside else { return };
    let least = subject.autoscaler.min.max(1);
    let value = format!("failureThreshold: 3\nreplicas: {least}");
    report
        .at(
            object.spec().get("fallback"),
            format!(
                "while the source of trigger `{}` is away, replicas freeze at whatever they were: no `fallback` says how many carry the load",
                trigger.get("type").str()
            ),
        )
        .fix("add `fallback` with the replicas that carry a usual day")
        .edit(Edit::insert(object.spec(), "fallback", &value));
}
