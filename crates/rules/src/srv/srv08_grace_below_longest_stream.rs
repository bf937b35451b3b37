use super::load_time;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Answers cut off when a pod ends
    ///
    /// ## What it does
    /// Looks for servers of generated text whose grace period is below a minute (Kubernetes' default
    /// is 30 s) and that have no `preStop` hook. Silent for servers of embeddings, and for those that
    /// only prefill for others.
    ///
    /// ## Why it matters
    /// Long answers stream for a minute and more. At each rollout, scale-down or drain the server is
    /// killed after the grace period, and whoever reads gets half an answer. Without a `preStop` hook
    /// new requests still arrive while it shuts down.
    ///
    /// ## How to fix it
    /// Set `terminationGracePeriodSeconds` above the longest answer, and a `preStop` hook that waits
    /// until the endpoint is out of the Services (about 10 s).
    SRV08, Warning,
    evidence: "kubernetes/website, docs/concepts/workloads/pods/pod-lifecycle, termination of pods; docs.vllm.ai, production deployments",
    check: Check::Container(check),
    examples: [
        Example::bad("the default", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{containerPort: 8000}]
", &[6]),
        Example::good("two minutes", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 120
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{containerPort: 8000}]
"),
        Example::good("a hook", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      lifecycle: {preStop: {exec: {command: [sleep, \"15\"]}}}
"),
        Example::good("embeddings", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --task, embed]
      ports: [{containerPort: 8000}]
"),
        Example::good("it prefills for others", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {llm-d.ai/role: prefill}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      ports: [{containerPort: 8000}]
"),
    ],
}

/// Seconds that a long answer takes: 2,000 tokens at 35 a second.
const LONG_ANSWER: i64 = 60;

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let plain = matches!(
        pod.manager,
        Manager::Deployment
            | Manager::StatefulSet
            | Manager::ReplicaSet
            | Manager::Pod
            | Manager::LeaderWorkerSet
    );
    let serves = load_time::is_server(pod, container) && load_time::streams(container);
    if !pod.complete || !plain || !serves || pod.role == "worker" || prefills(pod, container) {
        return;
    }
    let node = pod.spec.get("terminationGracePeriodSeconds");
    let grace = if node.is_set() { node.int().unwrap_or(LONG_ANSWER) } else { 30 };
    if grace >= LONG_ANSWER || container.node.path("lifecycle.preStop").is_set() {
        return;
    }
    let message = format!(
        "answers that stream for longer than {grace} s are cut off whenever a pod ends: the grace period is {}, and there is no preStop hook",
        if node.is_set() { format!("{grace} s") } else { "Kubernetes' default of 30 s".to_owned() }
    );
    let place = if node.is_set() { node } else { container.node.get("lifecycle") };
    let edit = if node.is_set() {
        Edit::replace(node, "120")
    } else {
        Edit::insert(pod.spec, "terminationGracePeriodSeconds", "120")
    };
    report
        .at(place, message)
        .fix("set terminationGracePeriodSeconds above the longest answer, for example 120")
        .edit(edit);
}

/// Whether it only reads prompts, and others write the answers.
fn prefills(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    let mode = container.flag(&["--disaggregation-mode"]).and_then(|flag| flag.value);
    mode.is_some_and(|mode| mode == "prefill")
        || pod.labels().entries().any(|label| label.value.is("prefill"))
}
