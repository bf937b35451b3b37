use crate::admission::Policy;
use crate::context::Context;
use crate::model::{Container, Pod};
use crate::quantity::Quantity;
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Memory volumes that fill the memory limit
    ///
    /// ## What it does
    /// Adds up the sizes of memory-backed volumes (`/dev/shm` and others) of a container and compares
    /// them with its memory limit, less a GiB for the process itself where it computes on an
    /// accelerator.
    ///
    /// ## Why it matters
    /// What is written to such a volume counts as the container's memory. Long before the volume is
    /// full, the kernel kills the process: OOMKilled, with memory to spare by its own count.
    ///
    /// ## How to fix it
    /// Raise the memory limit by the size of the volumes, or make them smaller.
    GPU22, Error,
    evidence: "kubernetes/website, docs/concepts/storage/volumes, emptyDir: medium Memory counts against the memory limit of the container that wrote",
    check: Check::Container(check),
    policy: Policy {
        expression: "\
!has(variables.spec.volumes)
|| !variables.all.exists(c, has(c.resources) && has(c.resources.limits)
  && c.resources.limits.exists(r, r == 'nvidia.com/gpu' || r == 'amd.com/gpu'))
|| variables.containers.all(c,
  !has(c.volumeMounts) || !has(c.resources) || !has(c.resources.limits)
  || !('memory' in c.resources.limits)
  || c.volumeMounts.all(m, variables.spec.volumes.all(v,
    v.name != m.name || !has(v.emptyDir) || !has(v.emptyDir.medium)
    || v.emptyDir.medium != 'Memory' || !has(v.emptyDir.sizeLimit)
    || quantity(v.emptyDir.sizeLimit).add(quantity('1Gi'))
      .compareTo(quantity(c.resources.limits['memory'])) <= 0)))",
        message: "a container is OOMKilled before its memory-backed volume is full: what lies in the volume counts against the memory limit. Raise the limit by the size of the volume, or make the volume smaller",
        misses: &[],
        of_daemons: true,
    },
    examples: [
        Example::bad("16 GiB of shared memory within 16 GiB", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 2, memory: 16Gi}}
      volumeMounts: [{name: shm, mountPath: /dev/shm}]
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: 16Gi}
", &[12]),
        Example::good("room for both", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 2, memory: 32Gi}}
      volumeMounts: [{name: shm, mountPath: /dev/shm}]
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: 16Gi}
"),
        Example::good("a server on the CPU with room beside the volume", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: nvcr.io/nvidia/tritonserver:23.03-py3
      resources: {limits: {memory: 1Gi}}
      volumeMounts: [{name: shm, mountPath: /dev/shm}]
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: 256Mi}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if container.init || !(pod.has_accelerator() || pod.serves() || pod.trains()) {
        return;
    }
    let Some(limit) = container.limit("memory") else { return };
    let mut total = Quantity::whole(0);
    let mut largest = None;
    for mount in container.node.get("volumeMounts").items() {
        let Some(volume) = pod.volume(mount.get("name").str()) else { continue };
        let node = volume.node.path("emptyDir.sizeLimit");
        let Some(size) = node.quantity() else { continue };
        if !volume.node.path("emptyDir.medium").is("Memory") {
            continue;
        }
        total = total.plus(size);
        if largest.is_none_or(|(most, _)| size > most) {
            largest = Some((size, node));
        }
    }
    let Some((_, node)) = largest else { return };
    // A process with CUDA in it takes about a GiB of memory before it does anything; others may do
    // with very little.
    let room = if container.has_accelerator() { 1.0 } else { 0.01 };
    if total.plus(Quantity::gibibytes(room)) <= limit {
        return;
    }
    report
        .at(
            node,
            format!(
                "container `{}` is OOMKilled before this volume is full: memory volumes of {total} count against its memory limit of {limit}",
                container.name
            ),
        )
        .fix("raise the memory limit by the size of the volume, or make the volume smaller");
}
