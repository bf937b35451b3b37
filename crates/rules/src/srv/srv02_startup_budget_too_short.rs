use super::load_time;
use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Startup probe that gives up before the model is loaded
    ///
    /// ## What it does
    /// Compares what a startup probe allows (`initialDelaySeconds` plus `failureThreshold` times
    /// `periodSeconds`) with the time that the model's weights take from the fastest storage, 1 GB/s,
    /// where the model's name tells its size. Reports only where even that is too slow.
    ///
    /// ## Why it matters
    /// The container is killed while it loads, and starts to load anew, for ever.
    ///
    /// ## How to fix it
    /// Raise `failureThreshold` until the product covers the slowest load; a startup probe that is too
    /// patient costs nothing once the server answers.
    SRV02, Error,
    evidence: "vllm-project/vllm docs/deployment/k8s.md; bandwidths in data/lint/loading.json",
    check: Check::Container(check),
    examples: [
        Example::bad("30 s for 140 GB", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, meta-llama/Llama-3.1-70B-Instruct]
      startupProbe:
        httpGet: {path: /health, port: 8000}
      resources: {limits: {nvidia.com/gpu: 1}}
", &[9]),
        Example::good("ten minutes", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, meta-llama/Llama-3.1-70B-Instruct]
      startupProbe:
        httpGet: {path: /health, port: 8000}
        failureThreshold: 60
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let probe = container.probe("startupProbe");
    if !probe.is_map() || !load_time::is_server(pod, container) {
        return;
    }
    let (Some(needed), budget) = (load_time::at_least(container), load_time::budget(probe)) else {
        return;
    };
    if budget as f64 >= needed {
        return;
    }
    let size = container.weights().and_then(|weights| weights.bytes());
    let size = size.map(|bytes| format!("{bytes} of weights")).unwrap_or_default();
    report
        .at(
            probe,
            format!(
                "the server is killed before it has loaded: the startup probe gives up after {budget} s, and {size} take {needed:.0} s or more even at 1 GB/s"
            ),
        )
        .fix(format!("raise failureThreshold so that failureThreshold times periodSeconds is well above {needed:.0}"));
}
