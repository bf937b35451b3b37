use crate::admission::Policy;
use crate::context::Context;
use crate::model::{Manager, Pod, Purpose};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::trn::job;

rule! {
    /// GPUs taken from the host
    ///
    /// ## What it does
    /// Looks for containers that reach GPUs past the device plugin: volumes of `/dev/nvidia*`, and
    /// privileged containers that ask for GPUs or set `NVIDIA_VISIBLE_DEVICES`. Cluster components are
    /// left out, and so are privileged pods that ask for eight GPUs or more, which have their node to
    /// themselves, and jobs that measure devices.
    ///
    /// ## Why it matters
    /// The scheduler does not know of GPUs that are taken this way, and gives them to others as well.
    /// A privileged container sees every GPU of its node, whatever it asked for, and can do all that
    /// root can.
    ///
    /// ## How to fix it
    /// Ask for GPUs in limits, and drop `privileged`. For InfiniBand or EFA ask for the device and add
    /// the capability `IPC_LOCK`.
    GPU17, Warning,
    evidence: "kubernetes/website, docs/concepts/extend-kubernetes/device-plugins; NVIDIA/k8s-device-plugin README; judgement",
    check: Check::Pod(check),
    policy: Policy {
        expression: "\
(!has(variables.spec.volumes) || variables.spec.volumes.all(v,
  !has(v.hostPath) || !v.hostPath.path.startsWith('/dev/nvidia')))
&& variables.containers.all(c,
  !has(c.securityContext) || !has(c.securityContext.privileged) || !c.securityContext.privileged
  || !(
    (has(c.env) && c.env.exists(e, e.name == 'NVIDIA_VISIBLE_DEVICES'))
    || (has(c.resources) && has(c.resources.limits) && 'nvidia.com/gpu' in c.resources.limits
      && quantity(c.resources.limits['nvidia.com/gpu']).asInteger() > 0))
  || (has(c.resources) && has(c.resources.limits) && 'nvidia.com/gpu' in c.resources.limits
    && quantity(c.resources.limits['nvidia.com/gpu']).asInteger() >= 8))",
        message: "the pod takes GPUs of the host past the device plugin, or sees all of them because it is privileged: the scheduler gives them to others as well. Ask for `nvidia.com/gpu` in limits, without device files and `privileged`",
        misses: &[],
        of_daemons: false,
    },
    examples: [
        Example::bad("device files of the host", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      volumeMounts: [{name: d, mountPath: /dev/nvidia0}]
  volumes:
    - name: d
      hostPath: {path: /dev/nvidia0}
", &[11]),
        Example::bad("privileged with a GPU", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      securityContext:
        privileged: true
      resources: {limits: {nvidia.com/gpu: 1}}
", &[9]),
        Example::good("a plain request", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("privileged and nothing to do with GPUs", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      securityContext: {privileged: true}
"),
        Example::good("all GPUs of the node, and its InfiniBand", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  hostNetwork: true
  containers:
    - name: main
      image: lmsysorg/sglang:v0.5.5
      securityContext: {privileged: true}
      resources: {limits: {nvidia.com/gpu: 8}}
"),
        Example::good("a measurement of a rack's network", "\
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

/// GPUs of the largest nodes in wide use.
const WHOLE_NODE: i64 = 8;

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    if pod.purpose == Purpose::System || pod.manager == Manager::DaemonSet {
        return;
    }
    for volume in pod.volumes() {
        let path = volume.node.path("hostPath.path");
        if path.str().starts_with("/dev/nvidia") {
            report
                .at(
                    path,
                    format!(
                        "the scheduler gives this GPU to others as well: `{}` is taken from the host past the device plugin",
                        path.str()
                    ),
                )
                .fix("remove the volume and ask for `nvidia.com/gpu` in limits");
        }
    }
    // Nodes have eight GPUs or fewer, with few exceptions: nobody else is given one.
    if pod.gpus() >= WHOLE_NODE || job::measures_devices(context, pod) {
        return;
    }
    for container in pod.main_containers() {
        let privileged = container.node.path("securityContext.privileged");
        if privileged.bool() != Some(true) {
            continue;
        }
        let with_devices = container.devices.iter().any(|device| device.is_gpu());
        let by_hand = container.env("NVIDIA_VISIBLE_DEVICES").is_some();
        if !with_devices && !by_hand {
            continue;
        }
        report
            .at(
                privileged,
                "a privileged container sees every GPU of its node, also those that were given to others",
            )
            .fix("remove `privileged`; for RDMA ask for its device and add the capability IPC_LOCK");
    }
}
