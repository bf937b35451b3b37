use super::job;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, Flag, FrameworkKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// Told numbers of workers differ from the pods there are
    ///
    /// ## What it does
    /// Compares `--nnodes`, `WORLD_SIZE`, `--num_machines`, `--num_processes` and `mpirun -np` with
    /// the pods (and GPUs) that the job starts.
    ///
    /// Silent for ranges (see TRN22), for values that only run time knows, for jobs that are one
    /// rank of several, and where replicas are not fixed.
    ///
    /// ## Why it matters
    /// With more workers told than started, all wait for those that never come, until a timeout.
    /// With fewer, the ones too many are refused and their GPUs are idle.
    ///
    /// ## How to fix it
    /// Make both the same, or leave the number to the operator (`PET_NNODES`, `WORLD_SIZE` of
    /// Kubeflow's jobs).
    TRN17, Error,
    evidence: "pytorch/pytorch docs, torchrun and torch.distributed.init_process_group; huggingface/accelerate, launch; open-mpi/ompi, mpirun: slots",
    check: Check::Container(check),
    examples: [
        Example::bad("four told, two started", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  completionMode: Indexed
  parallelism: 2
  completions: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, --nnodes=4, --nproc_per_node=8, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
", &[13]),
        Example::bad("a world of another size", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 3
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              env:
                - name: WORLD_SIZE
                  value: '4'
              resources:
                limits: {nvidia.com/gpu: 1}
", &[15]),
        Example::bad("more ranks than slots", "\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: a}
spec:
  slotsPerWorker: 8
  mpiReplicaSpecs:
    Launcher:
      replicas: 1
      template:
        spec:
          containers:
            - name: launcher
              image: a:1
              command: [mpirun, -np, '32', python, train.py]
    Worker:
      replicas: 2
      template:
        spec:
          containers:
            - name: worker
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
", &[14]),
        Example::good("all the same", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  completionMode: Indexed
  parallelism: 2
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, --nnodes=2, --nproc_per_node=8, train.py]
          env:
            - {name: WORLD_SIZE, value: '16'}
          resources:
            limits: {nvidia.com/gpu: 8}
"),
        Example::good("one rank of two", "\
apiVersion: batch/v1
kind: Job
metadata: {name: first}
spec:
  template:
    spec:
      containers:
        - name: main
          image: a:1
          command: [torchrun, --nnodes=2, --node_rank=0, train.py]
          resources:
            limits: {nvidia.com/gpu: 8}
"),
    ],
}

/// What a job starts.
struct Started {
    pods: i64,
    /// GPUs of one pod; 0 if they are not known.
    gpus: i64,
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if container.init || !pod.complete {
        return;
    }
    if pod.object.kind == "MPIJob" {
        check_mpi(context, pod, container, report);
        return;
    }
    let Some(started) = started(context, pod) else { return };
    // One rank that is started by itself, and its peers by others.
    let ranked = container.flag(&["--node-rank", "--machine-rank"]);
    let one_rank = ranked.is_some_and(|flag| flag.int().is_some())
        || ["NODE_RANK", "PET_NODE_RANK", "RANK", "JOB_RANK"]
            .iter()
            .any(|name| container.env_value(name).is_some());
    if one_rank && started.pods == 1 {
        return;
    }
    let told = |names: &[&str]| {
        container.flag(names).and_then(|flag| Some((flag.int()?, flag))).filter(|(n, _)| *n > 0)
    };
    let processes = started.pods.saturating_mul(started.gpus);
    if container.is(FrameworkKind::Pytorch) || container.runs("accelerate") {
        if let Some((nodes, flag)) = told(&["--nnodes", "--num-machines"])
            // One node: each pod for itself.
            && nodes > 1
            && nodes != started.pods
        {
            report_flag(report, &flag, nodes, "nodes", started.pods, "pods");
        }
        if let Some((count, flag)) = told(&["--num-processes"])
            && started.gpus > 0
            && count > 1
            && count != processes
            && told(&["--num-machines"]).is_some_and(|(nodes, _)| nodes == started.pods)
        {
            report_flag(report, &flag, count, "processes", processes, "GPUs");
        }
    }
    if let Some(env) = container.env("WORLD_SIZE")
        && let Some(size) = container.env_value("WORLD_SIZE").and_then(|v| v.parse::<i64>().ok())
        && size > 1
        && size != started.pods
        && size != processes
        && !is_multiple_of_processes(container, size, &started)
    {
        let gpus = if started.gpus > 0 {
            format!(" with {} GPUs each", started.gpus)
        } else {
            String::new()
        };
        report
            .at(
                env.value,
                format!(
                    "`WORLD_SIZE` is {size}, and {} starts {} pods{gpus}: the workers wait for a number that never meets",
                    pod.object.kind, started.pods
                ),
            )
            .fix("set it to what is started, or leave it to the operator");
    }
}

fn report_flag(
    report: &mut Report,
    flag: &Flag<'_>,
    told: i64,
    of: &str,
    started: i64,
    what: &str,
) {
    let (name, text) = (&flag.name, flag.node.str());
    let outcome = if told > started {
        "all wait for the rest until a timeout"
    } else {
        "those too many are refused"
    };
    // Only a value that stands in a word of its own with the flag can be replaced safely.
    let edit = (text == format!("{name}={told}"))
        .then(|| Edit::replace(flag.node, &format!("{name}={started}")))
        .flatten()
        .filter(|_| what == "pods");
    report
        .at_span(
            flag.node,
            flag.place(),
            format!(
                "`{name}` tells of {told} {of}, and the job starts {started} {what}: {outcome}"
            ),
        )
        .fix(format!("set `{name}` to {started}"))
        .edit(edit);
}

/// Whether a world is told in processes that are not one for each GPU.
fn is_multiple_of_processes(container: &Container<'_>, size: i64, started: &Started) -> bool {
    let flag = container.flag(&["--nproc-per-node"]);
    match flag {
        Some(flag) => flag.int().is_none_or(|count| count.saturating_mul(started.pods) == size),
        // On CPUs any number of processes may share a pod.
        None => started.gpus == 0 && size % started.pods.max(1) == 0,
    }
}

fn started(context: &Context<'_>, pod: &Pod<'_>) -> Option<Started> {
    if pod.object.annotation("kueue.x-k8s.io/job-min-parallelism").is_set() {
        return None;
    }
    let pods = match pod.manager {
        Manager::Job | Manager::CronJob | Manager::StatefulSet => pod.replicas?,
        Manager::JobSet => {
            // Several replicated jobs may be one world or not.
            let mut with_devices =
                context.bundle.pods_of(&pod.object).filter(|pod| pod.has_accelerator());
            let (first, second) = (with_devices.next(), with_devices.next());
            if second.is_some() || first.is_some_and(|first| first.index != pod.index) {
                return None;
            }
            // Replicas of a replicated job may be slices on their own.
            let jobs = pod.spec.ancestors().map(|node| node.get("replicas")).find(|n| n.is_set());
            if jobs.is_some_and(|jobs| jobs.int() != Some(1)) {
                return None;
            }
            pod.replicas?
        }
        Manager::TrainingOperator => {
            if pod.object.spec().get("elasticPolicy").is_set() {
                return None;
            }
            context
                .bundle
                .pods_of(&pod.object)
                .take(16)
                .try_fold(0i64, |sum, pod| Some(sum.saturating_add(pod.replicas?)))?
        }
        _ => return None,
    };
    let whole = pod.devices().all(|(_, device)| device.is_gpu() && device.count.is_some());
    Some(Started { pods, gpus: if whole { pod.gpus() } else { 0 } })
}

/// `mpirun` refuses to start more ranks than the slots of the hosts.
fn check_mpi(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !container.runs("mpirun") && !container.runs("mpiexec") {
        return;
    }
    let Some(flag) = container.flag(&["-np", "-n", "-c", "--n"]) else { return };
    let own_hosts = ["--oversubscribe", "-host", "--host", "-H", "--hostfile", "-hostfile", "-f"]
        .iter()
        .any(|name| container.flag(&[name]).is_some())
        || job::texts(container).any(|text| text.contains("oversubscribe"));
    let workers = context
        .bundle
        .pods_of(&pod.object)
        .filter(|pod| pod.role == "Worker")
        .find_map(|pod| pod.replicas);
    let slots: Node<'_> = pod.object.spec().get("slotsPerWorker");
    let slots = if slots.is_set() { slots.int() } else { Some(1) };
    let (Some(ranks), Some(workers), Some(slots)) = (flag.int(), workers, slots) else { return };
    // Version 1 of the operator counts the launcher's own node in other ways.
    if own_hosts || !pod.object.api_version.ends_with("v2beta1") {
        return;
    }
    let room = workers.saturating_mul(slots);
    if ranks <= room {
        return;
    }
    report
        .at_span(
            flag.node,
            flag.place(),
            format!(
                "`mpirun` is told to start {ranks} ranks, and {workers} workers have {slots} slots each: it refuses to start for want of slots"
            ),
        )
        .fix(format!("start {room} ranks, or set `slotsPerWorker` to the GPUs of a worker"));
}
