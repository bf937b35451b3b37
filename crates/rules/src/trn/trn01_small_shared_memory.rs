use super::job;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, DeviceKind, FrameworkKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Processes that share memory with the default `/dev/shm` of 64 MB
    ///
    /// ## What it does
    /// Looks at containers that run one process for each of several GPUs, or PyTorch with loader
    /// workers, and have no volume at `/dev/shm` and no `hostIPC`.
    ///
    /// Silent for Ray, whose operator adds a volume, for software that is not known to share
    /// memory, and where templates are completed elsewhere.
    ///
    /// ## Why it matters
    /// A container's `/dev/shm` has 64 MB. NCCL and PyTorch's loader workers exchange data through
    /// it: they die with `Bus error`, or hang while they start.
    ///
    /// ## How to fix it
    /// Mount an `emptyDir` with `medium: Memory` and a `sizeLimit` at `/dev/shm`. What lies in it
    /// counts against the container's memory limit.
    TRN01, Error,
    evidence: "pytorch/pytorch#5040, #16979, #108861; docs.nvidia.com NCCL, troubleshooting: shared memory",
    check: Check::Container(check),
    examples: [
        Example::bad("eight processes", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py]
          resources:
            limits:
              nvidia.com/gpu: 8
", &[13]),
        Example::bad("a server over two GPUs", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --tensor-parallel-size, '2']
      resources:
        limits: {nvidia.com/gpu: 2}
  volumes:
    - name: data
      emptyDir: {}
", &[10]),
        Example::bad("loader workers on one GPU", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [python, train.py, --num-workers=8]
          resources:
            limits:
              nvidia.com/gpu: 1
", &[10]),
        Example::good("a volume is mounted", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [torchrun, --nproc_per_node=8, train.py]
          resources:
            limits:
              nvidia.com/gpu: 8
          volumeMounts:
            - {name: shm, mountPath: /dev/shm}
      volumes:
        - {name: shm, emptyDir: {medium: Memory, sizeLimit: 16Gi}}
"),
        Example::good("one GPU and no workers", "\
apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  template:
    spec:
      containers:
        - name: main
          image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
          command: [python, train.py, --num-workers=0]
          resources:
            limits:
              nvidia.com/gpu: 1
"),
        Example::good("a measurement that a launcher starts", "\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: a}
spec:
  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          containers: [{name: main, image: a:1, command: [mpirun, nvbandwidth]}]
    Worker:
      replicas: 2
      template:
        spec:
          containers: [{name: main, image: a:1, command: [sshd], resources: {limits: {nvidia.com/gpu: 2}}}]
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    // KubeRay mounts shared memory by itself.
    if !pod.complete || pod.manager == Manager::Ray || pod.spec.get("hostIPC").bool() == Some(true)
    {
        return;
    }
    if container.init
        || container.mount_of("/dev/shm").is_some()
        || job::measures_devices(context, pod)
    {
        return;
    }
    let whole = container.device(DeviceKind::Gpu);
    let count = whole.and_then(|device| device.count).unwrap_or(0);
    let finding = if let Some(device) = whole.filter(|_| count > 1 && shares_memory(pod, container))
    {
        Some((device.node(), None, format!("{count} GPUs exchange data through `/dev/shm`")))
    } else {
        loader_workers(container).map(|(flag, workers)| {
            let place = flag.place();
            let text = format!("{workers} loader workers pass batches through `/dev/shm`");
            (flag.node, Some(place), text)
        })
    };
    let Some((node, place, why)) = finding else { return };
    let message = format!("{why}, which has 64 MB here: a bus error, or a hang at the start");
    let place = place.unwrap_or_else(|| node.place());
    report
        .at_span(node, place, message)
        .fix("mount an emptyDir with medium: Memory and a sizeLimit at `/dev/shm`")
        .edit(volume(pod, container));
}

/// Whether several GPUs mean several processes that talk through NCCL.
fn shares_memory(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    use FrameworkKind::{Lmdeploy, Mpi, Nim, Pytorch, Sglang, TensorrtLlm, Tgi, Vllm};
    let Some(found) = container.framework else {
        return job::trains(pod) && !job::is_test(pod);
    };
    match found.kind {
        Vllm | Sglang => {
            let size = |names: &[&str]| container.flag(names).map_or(Some(1), |flag| flag.int());
            let tensor = ["--tensor-parallel-size", "-tp", "--tp-size", "--tp"];
            let pipeline = ["--pipeline-parallel-size", "-pp", "--pp-size"];
            // Unless told, these use one GPU of all that they get.
            size(&tensor) > Some(1) || size(&pipeline) > Some(1)
        }
        Tgi | TensorrtLlm | Lmdeploy | Nim => true,
        Pytorch | Mpi => !job::is_test(pod),
        _ => false,
    }
}

/// A flag that gives PyTorch's loaders processes of their own.
fn loader_workers<'b>(container: &Container<'b>) -> Option<(crate::model::Flag<'b>, i64)> {
    if !container.is(FrameworkKind::Pytorch) || !container.has_accelerator() {
        return None;
    }
    let flag = container.flag(&["--num-workers", "--dataloader-num-workers", "--workers"])?;
    let workers = flag.int().filter(|workers| *workers > 0)?;
    Some((flag, workers))
}

/// Half of the container's memory limit, where there is one: the other half is for the rest.
fn volume(pod: &Pod<'_>, container: &Container<'_>) -> Vec<Edit> {
    let Some(limit) = container.limit("memory") else { return Vec::new() };
    let gibibytes = limit.units() >> 31;
    if gibibytes < 1 || pod.volume("dshm").is_some() {
        return Vec::new();
    }
    let add = |mapping: crate::yaml::Node<'_>, key: &str, item: &str| {
        let list = mapping.get(key);
        if list.exists() {
            Edit::prepend(list, item)
        } else {
            Edit::insert(mapping, key, &format!("- {}", item.replace('\n', "\n  ")))
        }
    };
    let volume = format!("name: dshm\nemptyDir:\n  medium: Memory\n  sizeLimit: {gibibytes}Gi");
    let volume = add(pod.spec, "volumes", &volume);
    let mount = add(container.node, "volumeMounts", "name: dshm\nmountPath: /dev/shm");
    match (volume, mount) {
        (Some(volume), Some(mount)) => vec![volume, mount],
        _ => Vec::new(),
    }
}
