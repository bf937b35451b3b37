use super::rollout;
use crate::context::Context;
use crate::model::{DeviceKind, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Rolling update that needs a GPU nobody has
    ///
    /// ## What it does
    /// Computes what the rolling update of a Deployment with GPUs may do at its replicas. Up to three
    /// replicas the default (25 % and 25 %) rounds to one pod more and none away. Silent for shares
    /// and slices of GPUs, of which more are usually free.
    ///
    /// ## Why it matters
    /// The new pod needs a GPU before an old one may end. Where all GPUs are taken, which is how
    /// people size GPU nodes, the new pod stays Pending, the old one keeps running, and the rollout
    /// never ends. Where nodes are added on demand, each rollout pays for one more.
    ///
    /// ## How to fix it
    /// Set `maxSurge: 0` and `maxUnavailable: 1`, or `strategy: {type: Recreate}` at one replica; or
    /// keep a spare GPU.
    SRV05, Error,
    evidence: "kubernetes/website, docs/concepts/workloads/controllers/deployment, rolling update: percentages round up for maxSurge and down for maxUnavailable; LLMKube issue 192, airunway issue 400",
    check: Check::Pod(check),
    examples: [
        Example::bad("the default at one replica", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 1
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
", &[4]),
        Example::bad("percentages at three replicas", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 3
  strategy:
    rollingUpdate: {maxUnavailable: 25%}
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
", &[6]),
        Example::good("recreated", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("one may be away", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("25 % of four is one", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 4
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
    let whole = pod
        .devices()
        .any(|(_, device)| matches!(device.kind, DeviceKind::Gpu | DeviceKind::Accelerator));
    if !pod.complete || !whole || pod.purpose == Purpose::System {
        return;
    }
    let Some(replicas) = context.bundle.least_replicas(pod).filter(|replicas| *replicas > 0) else {
        return;
    };
    let Some(rolling) = rollout::rolling(pod, replicas) else { return };
    if rolling.max_unavailable > 0 {
        return;
    }
    let pods = if replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
    report
        .at(
            rolling.strategy,
            format!(
                "where no GPU is free an update never ends: at {pods} the rolling update starts {} more before one of the old may go",
                if rolling.max_surge == 1 { "one pod".to_owned() } else { format!("{} pods", rolling.max_surge) }
            ),
        )
        .fix("set `strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}`, or `type: Recreate` at one replica");
}
