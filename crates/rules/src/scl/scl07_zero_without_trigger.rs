use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Scaling to zero by CPU or memory
    ///
    /// ## What it does
    /// Looks at ScaledObjects whose minimum is 0 (KEDA's default) and whose triggers are `cpu` and
    /// `memory` alone, and at HorizontalPodAutoscalers with `minReplicas: 0` and no Object or
    /// External metric.
    ///
    /// ## Why it matters
    /// Without pods there is no CPU usage that could start one. KEDA's webhook and the API server
    /// refuse such an object.
    ///
    /// ## How to fix it
    /// Set the minimum to 1, or add a trigger that is there without pods: a queue, or requests at the
    /// gateway.
    SCL07, Error,
    evidence: "kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go: verifyCPUMemoryScalers; kubernetes/kubernetes pkg/apis/autoscaling/validation: minReplicas 0",
    check: Check::Objects(&super::subject::KINDS, check),
    examples: [
        Example::bad("the default of KEDA", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  triggers:
    - type: cpu
      metadata: {value: '70'}
", &[6]),
        Example::bad("a minimum of 0", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  minReplicaCount: 0
  triggers:
    - {type: memory, metadata: {value: '70'}}
", &[6]),
        Example::good("a queue", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  triggers:
    - type: cpu
      metadata: {value: '70'}
    - type: prometheus
      metadata: {query: 'sum(vllm:num_requests_waiting)', threshold: '5', serverAddress: 'http://p'}
"),
    ],
}

fn check(_: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let spec = object.spec();
    if object.is("keda.sh", "ScaledObject") {
        let least = spec.get("minReplicaCount");
        let triggers = spec.get("triggers");
        let own = |kind: &str| kind == "cpu" || kind == "memory";
        let alone =
            !triggers.is_empty() && triggers.items().all(|item| own(item.get("type").str()));
        if !alone || (least.is_set() && least.int() != Some(0)) {
            return;
        }
        let node = if least.is_set() { least } else { triggers };
        report
            .at(
                node,
                "refused by KEDA: at zero replicas (`minReplicaCount` is 0 unless set) there is no CPU or memory usage that could start one",
            )
            .fix("set `minReplicaCount: 1`, or add a trigger that is there without pods");
        return;
    }
    let least = spec.get("minReplicas");
    let metrics = spec.get("metrics");
    let outside =
        metrics.items().any(|item| matches!(item.get("type").str(), "Object" | "External"));
    if !object.is("autoscaling", "HorizontalPodAutoscaler") || least.int() != Some(0) || outside {
        return;
    }
    report
        .at(
            least,
            "the API server refuses it: from zero replicas only an Object or External metric can start one",
        )
        .fix("set `minReplicas: 1`, or add an Object or External metric");
}
