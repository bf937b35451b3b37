use crate::context::Context;
use crate::model::{Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, Level, rule};

rule! {
    /// Processes for each node differ from its GPUs
    ///
    /// ## What it does
    /// Compares `--nproc_per_node` of torchrun, `--num_gpus` of deepspeed and `nprocPerNode` of a
    /// PyTorchJob with the GPUs that the worker asks for. GPUs that are left over are a warning.
    ///
    /// ## Why it matters
    /// A rank without a GPU of its own fails with "invalid device ordinal", and the others wait for
    /// it. With fewer ranks than GPUs the rest is paid for and idle.
    ///
    /// ## How to fix it
    /// Make both equal, or write `--nproc_per_node=gpu`.
    GPU15, Error,
    evidence: "docs.pytorch.org, torchrun: one process for each GPU; kubeflow/trainer, PyTorchJob nprocPerNode",
    check: Check::Pod(check),
    examples: [
        Example::bad("eight processes on four GPUs", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      command: [torchrun, --nproc_per_node=8, train.py]
      resources: {limits: {nvidia.com/gpu: 4}}
", &[8]),
        Example::good("as many as there are", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      command: [torchrun, --nproc-per-node, \"4\", train.py]
      resources: {limits: {nvidia.com/gpu: 4}}
"),
        Example::good("CPUs only", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      command: [torchrun, --nproc-per-node, \"4\", train.py]
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    for container in pod.main_containers() {
        let gpus = container.gpus();
        if gpus == 0 {
            continue;
        }
        let torchrun = container.runs("torchrun")
            || container.runs("torch.distributed.run")
            || container.runs("torch.distributed.launch");
        let flag = if torchrun {
            container.flag(&["--nproc_per_node"])
        } else if container.runs("deepspeed") {
            container.flag(&["--num_gpus"])
        } else {
            None
        };
        let found = flag
            .and_then(|flag| Some((flag.node, flag.place(), flag.name.to_string(), flag.int()?)));
        let in_job = || {
            let node = pod.object.spec().get("nprocPerNode");
            let count = node.str().parse::<i64>().ok()?;
            (pod.manager == Manager::TrainingOperator)
                .then(|| (node, node.place(), "nprocPerNode".to_owned(), count))
        };
        let Some((node, span, name, processes)) = found.or_else(in_job) else { continue };
        if processes == gpus {
            continue;
        }
        let message = if processes > gpus {
            format!(
                "rank {gpus} has no GPU: `{name}` starts {processes} processes and the container is given {gpus}"
            )
        } else {
            format!(
                "{} of {gpus} GPUs stay idle: `{name}` starts {processes} processes",
                gpus - processes
            )
        };
        let finding = report.at_span(node, span, message).fix(format!("set `{name}` to {gpus}"));
        if processes < gpus {
            finding.level(Level::Warning);
        }
    }
}
