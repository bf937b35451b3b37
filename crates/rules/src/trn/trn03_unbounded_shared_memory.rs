use super::job;
use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, Level, rule};

rule! {
    /// Shared memory without a size
    ///
    /// ## What it does
    /// Looks for `/dev/shm` mounted from an `emptyDir` in memory that has no `sizeLimit`. Where memory
    /// limits of all containers hold it back, that is hygiene.
    ///
    /// ## Why it matters
    /// Without a memory limit of the pod, the volume may take the node's whole memory, and other
    /// pods are killed for it. With one, it may take all of that, and the container is killed for
    /// what a full `/dev/shm` would have told it by an error.
    ///
    /// ## How to fix it
    /// Set `sizeLimit` to what the processes exchange: 1 to 2 GiB for each GPU is a usual start.
    TRN03, Warning,
    evidence: "kubernetes/website docs/concepts/storage/volumes: emptyDir in memory; kubernetes/enhancements KEP-1967 (size of memory backed volumes)",
    check: Check::Container(check),
    examples: [
        Example::bad("no size", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
      volumeMounts:
        - name: shm
          mountPath: /dev/shm
  volumes:
    - name: shm
      emptyDir:
        medium: Memory
", &[13]),
        Example::good("a size", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
      volumeMounts:
        - name: shm
          mountPath: /dev/shm
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: 8Gi}
"),
        Example::good("the node's own", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
      volumeMounts:
        - name: shm
          mountPath: /dev/shm
  volumes:
    - name: shm
      hostPath: {path: /dev/shm}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let Some((mount, name)) = container.mount_of("/dev/shm") else { return };
    if mount.get("mountPath").str().trim_end_matches('/') != "/dev/shm" || !job::is_ml(pod) {
        return;
    }
    let Some(volume) = pod.volume(name) else { return };
    let empty = volume.node.get("emptyDir");
    if !empty.get("medium").is("Memory") || empty.get("sizeLimit").is_set() {
        return;
    }
    let limit = pod.memory_limit();
    let message = match limit {
        Some(limit) => format!(
            "`/dev/shm` may grow to the memory limit of {limit}, and what lies in it counts against that: the container is killed where a full volume would have said so"
        ),
        None => format!(
            "`/dev/shm` may take the node's whole memory: neither a `sizeLimit` here nor a memory limit of {} holds it back",
            pod.describe()
        ),
    };
    let finding =
        report.at(empty, message).fix("set `sizeLimit`, 1 to 2 GiB for each GPU as a start");
    if limit.is_some() {
        finding.level(Level::Hygiene);
    }
}
