use super::rollout;
use crate::context::Context;
use crate::model::{DeviceKind, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, Level, rule};
use crate::trn::job;

rule! {
    /// Rolling update that needs a GPU nobody has
    ///
    /// ## What it does
    /// Computes what the rolling update of a Deployment with GPUs may do at its replicas. Up to three
    /// replicas the default (25 % and 25 %) rounds to one pod more and none away. Silent for shares
    /// and slices of GPUs, of which more are usually free, and for pods that only try a GPU or wait. A
    /// warning where the pod chooses nodes that are added on demand (Karpenter, a compute class of GKE).
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
        Example::bad("a node is added for it", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 1
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      nodeSelector: {karpenter.sh/nodepool: gpu}
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          resources: {limits: {nvidia.com/gpu: 1}}
", &[4]),
        Example::good("a share of a GPU's memory", "\
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
          resources: {limits: {nvidia.com/gpu: 1, nvidia.com/gpumem-percentage: 30}}
"),
        Example::good("somebody's shell", "\
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
          image: nvcr.io/nvidia/tritonserver:24.06-py3-sdk
          command: [bash, -c, while true; do sleep 30; done]
          resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let device = pod
        .devices()
        .find(|(_, device)| matches!(device.kind, DeviceKind::Gpu | DeviceKind::Accelerator));
    let Some((_, device)) = device else { return };
    if !pod.complete || pod.purpose == Purpose::System || is_shared(pod) || job::is_test(pod) {
        return;
    }
    let Some(replicas) = context.bundle.least_replicas(pod).filter(|replicas| *replicas > 0) else {
        return;
    };
    let Some(rolling) = rollout::rolling(pod, replicas) else { return };
    if rolling.max_unavailable > 0 {
        return;
    }
    let name = if device.is_gpu() { "GPU" } else { "accelerator" };
    let replicas =
        if replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
    let pods = match rolling.max_surge {
        1 => "one pod".to_owned(),
        surge => format!("{surge} pods"),
    };
    let on_demand = is_on_demand(context, pod);
    let what = if on_demand {
        format!(
            "each update waits for another {name} node, which is paid for until the old pod is gone"
        )
    } else {
        format!("where no {name} is free an update never ends")
    };
    let finding = report
        .at(
            rolling.strategy,
            format!("{what}: at {replicas} the rolling update starts {pods} more before one of the old may go"),
        )
        .fix("set `strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}`, or `type: Recreate` at one replica");
    if on_demand {
        finding.level(Level::Warning);
    }
}

/// Whether its GPUs are shared with others, by memory or by what its nodes do.
fn is_shared(pod: &Pod<'_>) -> bool {
    pod.asks_for_gpu_memory()
        || pod.node_requirements().iter().any(|label| {
            ["sharing", "shared-clients", "partition-size"]
                .iter()
                .any(|word| label.key.contains(word))
        })
}

/// Whether nodes are added for pods that do not fit, as far as the pod and what lies beside it tell.
fn is_on_demand(context: &Context<'_>, pod: &Pod<'_>) -> bool {
    let is_karpenter = |text: &str| text.to_ascii_lowercase().contains("karpenter");
    pod.node_requirements().iter().any(|label| {
        label.key == "cloud.google.com/compute-class"
            || is_karpenter(label.key)
            || label.values.iter().any(|value| is_karpenter(value))
    }) || context.bundle.near("NodePool", pod.spec).any(|pool| pool.group() == "karpenter.sh")
}
