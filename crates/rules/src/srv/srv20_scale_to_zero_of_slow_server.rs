use super::load_time;
use crate::context::Context;
use crate::model::{Container, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Scale to zero with a model that loads too slowly
    ///
    /// ## What it does
    /// Looks for services that may scale to zero (`minReplicas: 0`, a ScaledObject with a minimum of 0
    /// and a trigger of requests) whose weights, by the model's name, usually take longer to load than
    /// the request may wait (300 s unless `timeout` says otherwise).
    ///
    /// ## Why it matters
    /// The first request after a pause starts a pod and waits for it. If loading takes longer than the
    /// request may, every such request fails, and its retry may find the pod gone again.
    ///
    /// ## How to fix it
    /// Keep one replica, cache the weights on the node, or raise the timeout above the load.
    SRV20, Warning,
    evidence: "knative/serving, revision timeouts (300 s by default); kserve/kserve InferenceService timeout; bandwidths in data/lint/loading.json",
    check: Check::Container(check),
    examples: [
        Example::bad("140 GB from zero", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    minReplicas: 0
    containers:
      - name: kserve-container
        image: vllm/vllm-openai:v0.9.0
        args: [--model, meta-llama/Llama-3.1-70B-Instruct]
", &[6]),
        Example::good("one replica stays", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    minReplicas: 1
    containers:
      - name: kserve-container
        image: vllm/vllm-openai:v0.9.0
        args: [--model, meta-llama/Llama-3.1-70B-Instruct]
"),
    ],
}

/// Seconds that a request may wait by default.
const PATIENCE: i64 = 300;

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let (node, timeout) = match pod.manager {
        Manager::InferenceService => (pod.spec.get("minReplicas"), pod.spec.get("timeout")),
        Manager::Knative => {
            (pod.annotation("autoscaling.knative.dev/min-scale"), pod.spec.get("timeoutSeconds"))
        }
        _ => return,
    };
    if !node.is("0") || !load_time::is_server(pod, container) {
        return;
    }
    let patience = timeout.int().unwrap_or(PATIENCE);
    let Some(needed) = load_time::usually(container).filter(|needed| *needed > patience as f64)
    else {
        return;
    };
    report
        .at(
            node,
            format!("every first request after a pause fails: the weights take about {needed:.0} s at 200 MB/s, and the request waits {patience} s"),
        )
        .fix("keep one replica, or cache the weights on the node and raise the timeout");
}
