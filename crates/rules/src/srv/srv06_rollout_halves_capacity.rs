use super::rollout;
use crate::context::Context;
use crate::model::{Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Rolling update that takes half the capacity and one more GPU
    ///
    /// ## What it does
    /// Computes what a rolling update of a GPU Deployment does at the fewest replicas there may be (an
    /// autoscaler's minimum): at least half of them away, and a surge besides.
    ///
    /// ## Why it matters
    /// At two replicas one away is half the capacity, at one it is all of it, while the pod that
    /// replaces it loads for minutes. The surge needs a GPU that may not be free, so the absence
    /// lasts.
    ///
    /// ## How to fix it
    /// Raise the minimum, or choose: `maxSurge: 1, maxUnavailable: 0` with a spare GPU, `maxSurge: 0,
    /// maxUnavailable: 1` without.
    SRV06, Warning,
    evidence: "kubernetes/website, docs/concepts/workloads/controllers/deployment, rolling update",
    check: Check::Pod(check),
    examples: [
        Example::bad("two replicas", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  strategy:
    rollingUpdate:
      maxUnavailable: 1
      maxSurge: 1
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
", &[9]),
        Example::good("four replicas", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 4
  strategy: {rollingUpdate: {maxUnavailable: 1, maxSurge: 1}}
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("no surge", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if !pod.complete || pod.purpose == Purpose::System || pod.devices().next().is_none() {
        return;
    }
    let Some(replicas) = context.bundle.least_replicas(pod).filter(|replicas| *replicas > 0) else {
        return;
    };
    let Some(rolling) = rollout::rolling(pod, replicas) else { return };
    let (away, more) = (rolling.max_unavailable, rolling.max_surge);
    if away == 0 || more == 0 || away.saturating_mul(2) < replicas {
        return;
    }
    let by = match context.bundle.autoscaler_of(pod) {
        Some(_) => "the autoscaler's minimum of ",
        None => "",
    };
    let left = (replicas - away).max(0);
    report
        .at(
            rolling.strategy.path("rollingUpdate.maxSurge"),
            format!(
                "during an update {left} of {replicas} replicas are left, and {more} more GPU pod is needed at the same time: at {by}{replicas}, maxUnavailable is {away} and maxSurge {more}"
            ),
        )
        .fix("set maxUnavailable to 0 where a GPU is free for the surge, or maxSurge to 0 where none is");
}
