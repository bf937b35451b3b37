use crate::context::Context;
use crate::model::{Container, Flag, FrameworkKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, Level, rule};

rule! {
    /// Tensor and pipeline parallel size differ from the GPUs granted
    ///
    /// ## What it does
    /// Multiplies the parallel sizes of a server's command line (`--tensor-parallel-size`,
    /// `--pipeline-parallel-size`, `--data-parallel-size` and their like) and compares the product
    /// with the GPUs of the pod; of LeaderWorkerSets, with those of the whole group.
    ///
    /// Silent where other nodes take part (Ray, `--nnodes`), where a container runs several servers,
    /// and where stages of one model are spread over the GPUs (`--omni`). GPUs that are left over are
    /// a warning.
    ///
    /// ## Why it matters
    /// With more parts than GPUs the server does not start, or waits for ever for ranks that nobody
    /// runs. With fewer, the GPUs that are left over are paid for and idle.
    ///
    /// ## How to fix it
    /// Make the product equal to the GPUs of the pod.
    GPU14, Error,
    evidence: "docs.vllm.ai, parallelism and scaling; docs.sglang.ai, server arguments; huggingface.co/docs/text-generation-inference, launcher",
    check: Check::Container(check),
    examples: [
        Example::bad("four parts on two GPUs", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --tensor-parallel-size, \"4\"]
      resources: {limits: {nvidia.com/gpu: 2}}
", &[8]),
        Example::bad("one of four GPUs used", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b] 
      resources:
        limits:
          nvidia.com/gpu: 4
", &[11]),
        Example::good("two times two on four", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, -tp=2, --pipeline-parallel-size=2]
      resources: {limits: {nvidia.com/gpu: 4}}
"),
        Example::good("Ray brings other nodes", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, -tp=8, --distributed-executor-backend=ray]
      resources: {limits: {nvidia.com/gpu: 4}}
"),
        Example::good("a group of two", "\
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: a}
spec:
  leaderWorkerTemplate:
    size: 2
    workerTemplate:
      spec:
        containers:
          - name: main
            image: lmsysorg/sglang:v0.4
            command: [python3, -m, sglang.launch_server, --tp, \"16\", --nnodes, $(LWS_GROUP_SIZE)]
            resources: {limits: {nvidia.com/gpu: 8}}
"),
        Example::good("stages on GPUs of their own", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-omni:v0.20.0
      command: [vllm, serve, a/b, --omni]
      resources: {limits: {nvidia.com/gpu: 2}}
"),
    ],
}

/// Flags that multiply, each with its other names.
const VLLM: [&[&str]; 3] = [
    &["--tensor-parallel-size", "-tp"],
    &["--pipeline-parallel-size", "-pp"],
    &["--data-parallel-size", "-dp"],
];
const SGLANG: [&[&str]; 2] =
    [&["--tp-size", "--tp", "--tensor-parallel-size"], &["--pp-size", "--pipeline-parallel-size"]];
const TGI: [&[&str]; 1] = [&["--num-shard"]];
const LMDEPLOY: [&[&str]; 1] = [&["--tp"]];

/// Flags by which servers of several nodes find each other, or which split GPUs otherwise.
const OTHERWISE: [&str; 11] = [
    "--distributed-executor-backend",
    "--nnodes",
    "--node-rank",
    "--dist-init-addr",
    "--data-parallel-size-local",
    "--data-parallel-address",
    "--dp-size",
    "--dp",
    "--config",
    "--omni",
    "--stage-configs-path",
];

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let Some(framework) = container.framework else { return };
    let flags: &[&[&str]] = match framework.kind {
        FrameworkKind::Vllm => &VLLM,
        FrameworkKind::Sglang => &SGLANG,
        FrameworkKind::Tgi => &TGI,
        FrameworkKind::Lmdeploy => &LMDEPLOY,
        _ => return,
    };
    let gpus = container.gpus();
    let alone = matches!(
        pod.manager,
        Manager::Pod
            | Manager::Deployment
            | Manager::StatefulSet
            | Manager::ReplicaSet
            | Manager::Job
            | Manager::DaemonSet
    ) || (matches!(pod.manager, Manager::Runtime | Manager::InferenceService)
        && !has_workers(pod));
    if gpus == 0 || !alone || runs_several(container) || uses_others(container) {
        return;
    }
    let mut product = 1i64;
    let mut seen: Vec<Flag<'_>> = Vec::new();
    for names in flags {
        let Some(flag) = container.flag(names) else { continue };
        // A value that only the shell knows.
        let Some(size) = flag.int() else { return };
        product = product.saturating_mul(size);
        seen.push(flag);
    }
    let Some(first) = seen.first() else {
        // Only vLLM is known to take exactly one; a runtime's arguments may be completed later.
        let unset = framework.kind == FrameworkKind::Vllm && pod.complete && !container.env_from;
        if unset && gpus > 1 && knows_all_arguments(container) {
            let Some(device) = container.devices.iter().find(|device| device.is_gpu()) else {
                return;
            };
            report
                .at(
                    device.node(),
                    format!(
                        "{} of {gpus} GPUs stay idle: vLLM runs on one unless told otherwise",
                        gpus - 1
                    ),
                )
                .fix(format!("add `--tensor-parallel-size {gpus}`, or ask for one GPU"))
                .level(Level::Warning);
        }
        return;
    };
    if product == gpus {
        return;
    }
    let names: Vec<String> = seen
        .iter()
        .map(|flag| format!("{} {}", flag.name, flag.value.as_deref().unwrap_or_default()))
        .collect();
    let said = names.join(", ");
    let message = if product > gpus {
        format!(
            "{} does not start: `{said}` needs {product} GPUs and the container is given {gpus}",
            framework.name()
        )
    } else {
        format!("{} of {gpus} GPUs stay idle: `{said}` uses {product}", gpus - product)
    };
    let finding = report
        .at_span(first.node, first.place(), message)
        .fix(format!("make the parallel sizes multiply to {gpus}, or ask for {product} GPUs"));
    if product < gpus {
        finding.level(Level::Warning);
    }
}

/// Whether an object of KServe or OME describes nodes that work together.
fn has_workers(pod: &Pod<'_>) -> bool {
    matches!(pod.role, "leader" | "worker" | "workerSpec" | "decoder" | "prefill")
        || pod.spec.get("worker").exists()
        || pod.spec.get("workerSpec").exists()
        || pod.spec.parent().get("worker").exists()
        || pod.spec.parent().get("workerSpec").exists()
}

/// Whether a container starts more than one server, each on its part of the GPUs.
fn runs_several(container: &Container<'_>) -> bool {
    let starts = |word: &str| {
        word.ends_with("vllm.entrypoints.openai.api_server")
            || word.ends_with("sglang.launch_server")
            || word == "serve"
    };
    let started = container.words.iter().filter(|word| starts(&word.text)).count();
    started > 1
        || container.env("CUDA_VISIBLE_DEVICES").is_some()
        || container.words.iter().any(|word| word.text.contains("CUDA_VISIBLE_DEVICES"))
}

fn uses_others(container: &Container<'_>) -> bool {
    OTHERWISE.iter().any(|name| container.flag(&[name]).is_some()) || container.runs("ray")
}

/// Whether no variable, file or script could hold a flag that is not seen.
fn knows_all_arguments(container: &Container<'_>) -> bool {
    container.words.iter().all(|word| !word.text.contains('$') && !word.text.ends_with(".sh"))
        && container
            .words
            .iter()
            .any(|word| word.text.starts_with("--model") || word.text == "serve")
}
