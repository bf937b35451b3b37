use super::load_time;
use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Liveness probe equal to the readiness probe
    ///
    /// ## What it does
    /// Compares the two probes of model servers: same endpoint, and a liveness probe that is no more
    /// patient than the readiness probe. Silent for probes that only connect, which the kernel answers
    /// however busy the server is.
    ///
    /// ## Why it matters
    /// A server whose queue is full answers its probes late. The readiness probe takes it out of the
    /// Service for a while, which is right; an equal liveness probe kills it at the same moment, with
    /// every request it holds, and the load moves on to the next one.
    ///
    /// ## How to fix it
    /// Ask liveness of an endpoint that does not wait in the queue, and let it fail much later: a
    /// larger `failureThreshold` and `timeoutSeconds`.
    SRV04, Warning,
    evidence: "kubernetes/website, docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes; zegl/kube-score README_CHECKS: pod probes identical",
    check: Check::Container(check),
    examples: [
        Example::bad("equal", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      livenessProbe:
        httpGet: {path: /v1/models, port: 8000}
      readinessProbe:
        httpGet: {path: /v1/models, port: 8000}
", &[8]),
        Example::good("a patient liveness probe", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      livenessProbe:
        httpGet: {path: /v1/models, port: 8000}
        failureThreshold: 12
      readinessProbe:
        httpGet: {path: /v1/models, port: 8000}
"),
        Example::good("another endpoint", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      livenessProbe:
        httpGet: {path: /live, port: 8000}
      readinessProbe:
        httpGet: {path: /ready, port: 8000}
"),
        Example::good("both only connect", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: nvcr.io/nvidia/tritonserver:24.06-py3
      livenessProbe: {tcpSocket: {port: 9000}, periodSeconds: 5}
      readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 5}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let (liveness, readiness) =
        (container.probe("livenessProbe"), container.probe("readinessProbe"));
    if !liveness.is_map() || !readiness.is_map() || !load_time::is_server(pod, container) {
        return;
    }
    let Some(endpoint) = endpoint(liveness) else { return };
    if Some(&endpoint) != self::endpoint(readiness).as_ref()
        || patience(liveness) > patience(readiness)
        || patience(liveness) >= PATIENT
    {
        return;
    }
    report
        .at(
            liveness,
            format!(
                "under load the server is killed at the moment when it should only be spared: liveness asks {endpoint} as readiness does, and fails as soon, after {} s",
                patience(liveness)
            ),
        )
        .fix("let liveness fail much later than readiness (failureThreshold, timeoutSeconds), or ask an endpoint that does not wait in the queue");
}

/// Seconds of silence after which hardly any server is only busy.
const PATIENT: i64 = 60;

/// What a probe asks, in words.
fn endpoint(probe: Node<'_>) -> Option<String> {
    let http = probe.get("httpGet");
    if http.is_map() {
        let path = http.get("path").text().unwrap_or("/");
        return Some(format!("`{path}` on port {}", http.get("port").str()));
    }
    probe.path("grpc.port").text().map(|port| format!("port {port}"))
}

/// Seconds of silence after which a probe has failed.
fn patience(probe: Node<'_>) -> i64 {
    let seconds = |key: &str, default: i64| probe.get(key).int().unwrap_or(default);
    seconds("periodSeconds", 10).saturating_mul(seconds("failureThreshold", 3))
}
