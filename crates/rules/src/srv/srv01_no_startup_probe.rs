use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

use super::load_time;

rule! {
    /// Liveness probe without a startup probe on a model server
    ///
    /// ## What it does
    /// Looks at containers that serve models: where a liveness probe is set and no startup probe,
    /// and the liveness probe gives the model less time to load than it takes: twice the time that its
    /// weights usually need where their size is known, else five minutes for a server of generated
    /// text and two for others.
    ///
    /// ## Why it matters
    /// A model that is still loading does not answer. The liveness probe counts that as a failure,
    /// the kubelet kills the container, and it starts to load anew, for ever.
    ///
    /// ## How to fix it
    /// Add a startup probe on the same endpoint whose `failureThreshold` times `periodSeconds` is
    /// longer than the slowest load. The liveness probe waits until it succeeded.
    SRV01, Warning,
    evidence: "vllm-project/vllm docs/deployment/k8s.md: containers killed while loading, exit by KeyboardInterrupt",
    check: Check::Container(check),
    examples: [
        Example::bad("a minute to load", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      livenessProbe:
        httpGet: {path: /health, port: 8000}
        initialDelaySeconds: 30
", &[8]),
        Example::good("no liveness probe", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
"),
        Example::good("a startup probe", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      startupProbe:
        httpGet: {path: /health, port: 8000}
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /health, port: 8000}
"),
        Example::good("two minutes for a small model", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: pytorch/torchserve:0.12.0
      livenessProbe:
        httpGet: {path: /ping, port: 8080}
        initialDelaySeconds: 150
"),
        Example::good("three minutes for 6 GB", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, Qwen/Qwen2.5-3B-Instruct]
      livenessProbe:
        httpGet: {path: /health, port: 8000}
        initialDelaySeconds: 180
"),
        Example::good("models are loaded later", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: nvcr.io/nvidia/tritonserver:24.06-py3
      args: [tritonserver, --model-repository=/models, --model-control-mode=explicit]
      livenessProbe: {httpGet: {path: /v2/health/live, port: 8000}}
"),
    ],
}

/// Seconds after which a server of generated text without a known model is not called slow: five
/// minutes, in which 50 GB load at 170 MB/s.
const PATIENT: i64 = 300;
/// The same for servers of other models, which are smaller.
const PATIENT_WITH_SMALL: i64 = 120;

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let liveness = container.probe("livenessProbe");
    // A runtime or an operator may add the startup probe.
    if !pod.complete || !liveness.is_map() || !load_time::is_server(pod, container) {
        return;
    }
    let budget = load_time::budget(liveness);
    let patient = match load_time::usually(container) {
        Some(seconds) => budget as f64 >= 2.0 * seconds,
        None if load_time::streams(container) => budget >= PATIENT,
        None => budget >= PATIENT_WITH_SMALL,
    };
    // Triton that loads models on request answers before it has any.
    let loads_later = container
        .flag(&["--model-control-mode"])
        .and_then(|flag| flag.value)
        .is_some_and(|mode| mode == "explicit");
    if container.probe("startupProbe").is_set() || patient || loads_later {
        return;
    }
    report
        .at(
            liveness,
            format!(
                "a model that takes more than about {budget} s to load is killed while it loads, again and again: the liveness probe starts with the container and no startup probe holds it back"
            ),
        )
        .fix("add a startupProbe on the same endpoint, with failureThreshold times periodSeconds above the longest load");
}
