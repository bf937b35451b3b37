use crate::context::Context;
use crate::model::{Container, DeviceKind, Pod};
use crate::quantity::Quantity;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Too few CPUs for the GPUs
    ///
    /// ## What it does
    /// Compares the CPUs that a serving or training container may use with its whole GPUs (fewer than
    /// two for each), and with the data-loader workers that its command line starts. Where a CPU limit
    /// is set it counts, else the request.
    ///
    /// ## Why it matters
    /// Tokenising, decoding images and launching kernels need CPU. With one core for each GPU, the GPU
    /// waits; with more data-loader workers than cores, they wait for each other.
    ///
    /// ## How to fix it
    /// Give at least two CPUs for each GPU, and as many as there are data-loader workers.
    GPU21, Warning,
    evidence: "docs.pytorch.org, torch.utils.data: a warning for more workers than CPUs; docs.vllm.ai, CPU resources: at least 2 + GPUs; judgement",
    check: Check::Container(check),
    examples: [
        Example::bad("four GPUs, four CPUs", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      resources:
        limits:
          cpu: 4
          nvidia.com/gpu: 4
", &[10]),
        Example::bad("more workers than CPUs", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      command: [torchrun, train.py, --num_workers=16]
      resources:
        limits: {cpu: 8, nvidia.com/gpu: 1}
", &[8]),
        Example::good("enough", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      resources:
        limits: {cpu: 16, nvidia.com/gpu: 4}
"),
    ],
}

/// CPUs for each GPU below which one is reported.
const FEWEST: i64 = 2;

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if container.init || !(pod.serves() || pod.trains()) {
        return;
    }
    let gpus = container.device(DeviceKind::Gpu).and_then(|device| device.count).unwrap_or(0);
    let resources = container.resources();
    let (limit, request) = (resources.path("limits.cpu"), resources.path("requests.cpu"));
    let node = if limit.is_set() { limit } else { request };
    let (Some(cpus), true) = (node.quantity(), gpus > 0) else { return };
    if let Some(flag) =
        container.flag(&["--num_workers", "--dataloader_num_workers", "--num-data-workers"])
        && let Some(workers) = flag.int().filter(|_| pod.trains())
        && Quantity::whole(workers) > cpus
    {
        report
            .at_span(
                flag.node,
                flag.place(),
                format!(
                    "{workers} data-loader workers wait for each other: the container has {} CPUs",
                    cpus.as_f64()
                ),
            )
            .fix("start at most as many workers as there are CPUs, or give more CPUs");
        return;
    }
    if cpus < Quantity::whole(gpus.saturating_mul(FEWEST)) {
        report
            .at(
                node,
                format!("GPUs wait for the CPU: {} for {gpus} GPUs, which need about two each to be fed", cpus.as_f64()),
            )
            .fix(format!("give at least {} CPUs", gpus.saturating_mul(FEWEST)));
    }
}
