use super::{job, network};
use crate::context::Context;
use crate::model::{Container, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Several network interfaces, and none is chosen
    ///
    /// ## What it does
    /// Looks at pods that hold GPUs, work together with others, and have several network interfaces
    /// (`hostNetwork`, Multus, GKE's multi-networking), and do not set `NCCL_SOCKET_IFNAME`.
    ///
    /// Silent where variables come from elsewhere as a whole, or a script sets it.
    ///
    /// ## Why it matters
    /// NCCL and Gloo take the first interface that they find: on a node that may be a bridge or a
    /// management network that other nodes cannot reach. The job hangs, and ends after a timeout of
    /// many minutes.
    ///
    /// ## How to fix it
    /// Set `NCCL_SOCKET_IFNAME` and `GLOO_SOCKET_IFNAME` to the interface that reaches the peers
    /// (`eth0`), or exclude those that do not (`^lo,docker0`).
    TRN13, Warning,
    evidence: "docs.vllm.ai, troubleshooting: hangs; NVIDIA/nccl#706; NVIDIA/nccl-tests#15",
    check: Check::Container(check),
    examples: [
        Example::bad("the node's network", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 2
      template:
        spec:
          hostNetwork: true
          containers:
            - name: pytorch
              image: a:1
              command: [torchrun, train.py]
              resources:
                limits: {nvidia.com/gpu: 8}
", &[10]),
        Example::good("an interface is chosen", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 2
      template:
        spec:
          hostNetwork: true
          containers:
            - name: pytorch
              image: a:1
              env:
                - {name: NCCL_SOCKET_IFNAME, value: eth0}
              resources:
                limits: {nvidia.com/gpu: 8}
"),
        Example::good("one interface", "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: a}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 2
      template:
        spec:
          containers:
            - name: pytorch
              image: a:1
              resources:
                limits: {nvidia.com/gpu: 8}
"),
        Example::good("the launcher hands it to the workers", "\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: a}
spec:
  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          containers:
            - name: main
              image: a:1
              command: [bash, -c]
              args:
                - mpirun -np 16 -x NCCL_SOCKET_IFNAME=eth0 /opt/build/all_reduce_perf -b 1G
    Worker:
      replicas: 2
      template:
        spec:
          hostNetwork: true
          containers:
            - name: main
              image: a:1
              securityContext: {privileged: true}
              resources: {limits: {nvidia.com/gpu: 4}}
"),
    ],
}

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if container.init || container.gpus() == 0 || !pod.complete || container.env_from {
        return;
    }
    let host = pod.spec.get("hostNetwork");
    let extra = pod
        .metadata
        .get("annotations")
        .entries()
        .find(|entry| network::NETWORKS.iter().take(2).any(|key| entry.key == *key));
    let (node, why) = match (host.bool(), extra) {
        (Some(true), _) => (host, "all interfaces of the node are in sight"),
        (_, Some(entry)) => (entry.value, "the pod has several network interfaces"),
        _ => return,
    };
    // Pods of a LeaderWorkerSet are one server over several nodes.
    let together = pod.manager == Manager::LeaderWorkerSet
        && pod.object.spec().path("leaderWorkerTemplate.size").int().is_some_and(|size| size > 1)
        || job::team(context, pod).is_some();
    // A launcher hands variables to its workers (`mpirun -x`); clouds ship scripts that set what
    // fits their nodes.
    let says = |text: &str| {
        text.contains("SOCKET_IFNAME") || text.contains("nccl-env") || text.contains("source ")
    };
    let chosen = container.env("NCCL_SOCKET_IFNAME").is_some()
        || context
            .bundle
            .pods_of(&pod.object)
            .take(16)
            .flat_map(|other| &other.containers)
            .any(|other| job::texts(other).any(says));
    if !together || chosen {
        return;
    }
    report
        .at(
            node,
            format!(
                "in container `{}` NCCL takes the first interface that it finds, and {why}: if its peers cannot reach that one, the job hangs until a timeout",
                container.name
            ),
        )
        .fix("set `NCCL_SOCKET_IFNAME` and `GLOO_SOCKET_IFNAME` to the interface that reaches the peers");
}
