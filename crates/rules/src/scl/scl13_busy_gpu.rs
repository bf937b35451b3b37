use super::subject::{self, KINDS};
use crate::context::Context;
use crate::model::Object;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// How busy a GPU is decides the number of servers
    ///
    /// ## What it does
    /// Looks for autoscalers whose metrics are all of how busy GPUs are: `DCGM_FI_DEV_GPU_UTIL`,
    /// duty cycles and the like.
    ///
    /// Silent where a metric of requests is watched beside.
    ///
    /// ## Why it matters
    /// The value says for which share of time any kernel ran. With one request in flight it may be
    /// 100 already, and it is still 100 with a thousand waiting: it cannot say how many servers are
    /// needed.
    ///
    /// ## How to fix it
    /// Scale on what is waiting or in flight.
    SCL13, Warning,
    evidence: "NVIDIA DCGM documentation: DCGM_FI_DEV_GPU_UTIL; cloud.google.com/kubernetes-engine, best practices for autoscaling LLM inference on GPUs",
    check: Check::Objects(&KINDS, check),
    examples: [
        Example::bad("DCGM's utilisation", "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: server}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  maxReplicas: 4
  metrics:
    - type: Pods
      pods:
        metric:
          name: DCGM_FI_DEV_GPU_UTIL
        target: {type: AverageValue, averageValue: 80}
", &[11]),
        Example::bad("in a query", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  minReplicaCount: 1
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prometheus
        query: avg(DCGM_FI_DEV_GPU_UTIL)
        threshold: '80'
", &[11]),
        Example::good("with what is waiting", "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: server}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  maxReplicas: 4
  metrics:
    - type: Pods
      pods:
        metric: {name: DCGM_FI_DEV_GPU_UTIL}
        target: {type: AverageValue, averageValue: 80}
    - type: Pods
      pods:
        metric: {name: vllm_num_requests_waiting}
        target: {type: AverageValue, averageValue: 5}
"),
    ],
}

fn check(context: &Context<'_>, object: &Object<'_>, report: &mut Report) {
    let Some(subject) = subject::read(context, object) else { return };
    let custom = || subject.metrics.iter().filter(|metric| !metric.is_resource());
    if custom().any(|metric| !subject::is_busy_gpu(metric.name)) {
        return;
    }
    for metric in custom() {
        report
            .at(
                metric.node,
                "a GPU is 100 percent busy with one request or a thousand: the value cannot say how many replicas are needed",
            )
            .fix("scale on requests that wait or are in flight");
    }
}
