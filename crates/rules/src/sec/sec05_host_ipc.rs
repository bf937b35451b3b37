use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Host namespaces used to get shared memory
    ///
    /// ## What it does
    /// Looks for `hostIPC` and `hostPID` on pods that train, serve, are notebooks or ask for
    /// accelerators. Silent for the cluster's own pods, and for clients of MPS
    /// (`CUDA_MPS_PIPE_DIRECTORY`), which speak to a daemon of the node.
    ///
    /// ## Why it matters
    /// `hostIPC` is taken as a way around the 64 MB of `/dev/shm`. It lets the pod read and write
    /// the shared memory of every process of the node, other teams' tensors among them; `hostPID`
    /// shows and may stop their processes. Pod security levels `baseline` and `restricted` refuse
    /// such pods.
    ///
    /// ## How to fix it
    /// Mount an `emptyDir` with `medium: Memory` and a `sizeLimit` at `/dev/shm`.
    SEC05, Warning,
    evidence: "kubernetes/website, concepts/security/pod-security-standards: host namespaces are refused from baseline on",
    check: Check::Pod(check),
    examples: [
        Example::bad("shared memory of the host", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  hostIPC: true
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
", &[5]),
        Example::bad("memory is mounted already", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  restartPolicy: Never
  hostIPC: true
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      volumeMounts: [{name: shm, mountPath: /dev/shm}]
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: 8Gi}
", &[6]),
        Example::good("memory of its own", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      volumeMounts: [{name: shm, mountPath: /dev/shm}]
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: 8Gi}
"),
        Example::good("an exporter of the cluster", "\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      hostPID: true
      containers: [{name: a, image: 'prom/node-exporter:v1.8.0'}]
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let ours = match pod.purpose {
        Purpose::Serving | Purpose::Training | Purpose::Notebook => true,
        Purpose::System => false,
        Purpose::Batch | Purpose::Unknown => pod.has_accelerator(),
    };
    let mps = pod.containers.iter().any(|container| {
        container.env("CUDA_MPS_PIPE_DIRECTORY").is_some()
            || container.env("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE").is_some()
    });
    if !ours || mps {
        return;
    }
    let ipc = pod.spec.get("hostIPC");
    if ipc.bool() == Some(true) {
        let has_memory = pod.main_containers().any(|container| {
            container
                .mount_of("/dev/shm")
                .and_then(|(_, name)| pod.volume(name))
                .is_some_and(|volume| volume.node.path("emptyDir.medium").is("Memory"))
        });
        // With memory of its own at /dev/shm nothing is lost.
        let edit = if has_memory { Edit::remove(ipc) } else { None };
        report
            .at(
                ipc,
                "this pod can read and write the shared memory of every process of the node, other teams' models among it, and namespaces with pod security `baseline` refuse it",
            )
            .fix("mount an emptyDir with `medium: Memory` and a `sizeLimit` at /dev/shm in its place")
            .edit(edit);
    }
    let pid = pod.spec.get("hostPID");
    if pid.bool() == Some(true) {
        report
            .at(
                pid,
                "this pod sees every process of the node with its environment, and as root may stop it; namespaces with pod security `baseline` refuse it",
            )
            .fix("leave `hostPID` out");
    }
}
