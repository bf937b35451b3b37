use super::job;
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Shared memory on a disk
    ///
    /// ## What it does
    /// Looks for `/dev/shm` mounted from an `emptyDir` without `medium: Memory`.
    ///
    /// ## Why it matters
    /// Such a volume lies on the node's disk. Every batch and every exchange between GPUs that
    /// should stay in memory is written to a file system: several times slower, and the node's
    /// disk fills up.
    ///
    /// ## How to fix it
    /// Set `medium: Memory`, and a `sizeLimit`: memory then counts against the container's limit.
    TRN02, Warning,
    evidence: "kubernetes/website docs/concepts/storage/volumes: emptyDir.medium; judgement",
    check: Check::Container(check),
    examples: [
        Example::bad("no medium", "\
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
      emptyDir: {}
", &[13]),
        Example::bad("a size alone", "\
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
        sizeLimit: 8Gi
", &[13]),
        Example::good("in memory", "\
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
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let Some((mount, name)) = container.mount_of("/dev/shm") else { return };
    if mount.get("mountPath").str().trim_end_matches('/') != "/dev/shm" || !job::is_ml(pod) {
        return;
    }
    let Some(volume) = pod.volume(name) else { return };
    let empty = volume.node.get("emptyDir");
    let medium = empty.get("medium");
    if !empty.exists() || (medium.is_set() && !medium.is("")) {
        return;
    }
    let edit = if medium.exists() {
        Edit::replace(medium, "Memory")
    } else if empty.is_map() {
        Edit::insert(empty, "medium", "Memory")
    } else {
        None
    };
    report
        .at(
            empty,
            format!("`/dev/shm` of container `{}` lies on the node's disk: what should be exchanged in memory is written to files", container.name),
        )
        .fix("set `medium: Memory`")
        .edit(edit);
}
