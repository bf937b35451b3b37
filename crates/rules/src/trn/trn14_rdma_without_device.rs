use super::{job, network};
use crate::context::Context;
use crate::model::{Container, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Settings for a fast network, and no device for it
    ///
    /// ## What it does
    /// Looks at containers with accelerators that are told to use EFA (`FI_PROVIDER=efa`) or
    /// InfiniBand and RoCE (`NCCL_IB_HCA`), and do not ask for such a device; and at those that ask
    /// for an RDMA device and may not lock memory.
    ///
    /// Silent for privileged containers, which see the node's devices, for devices that come by
    /// resource claims or annotations, where templates are completed elsewhere, and for InfiniBand in
    /// replicas of a server that name no peers: within a node NCCL does not use it.
    ///
    /// ## Why it matters
    /// A device that is not asked for is not in the container. Initialisation fails with `unhandled
    /// system error`, or all traffic goes over TCP sockets, many times slower, without a word.
    ///
    /// ## How to fix it
    /// Ask for the device (`vpc.amazonaws.com/efa`, or the `rdma/` resource of your device plugin)
    /// and add the capability `IPC_LOCK`.
    TRN14, Error,
    evidence: "Amazon EKS user guide, machine learning training with EFA; Mellanox/k8s-rdma-shared-dev-plugin README; aws/aws-ofi-nccl README",
    check: Check::Container(check),
    examples: [
        Example::bad("EFA without its device", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: FI_PROVIDER
          value: efa
      resources:
        limits: {nvidia.com/gpu: 8}
", &[10]),
        Example::bad("a card that cannot register memory", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 8
          rdma/hca_shared_devices_a: 1
", &[11]),
        Example::good("EFA", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - {name: FI_PROVIDER, value: efa}
      resources:
        limits: {nvidia.com/gpu: 8, vpc.amazonaws.com/efa: 32}
"),
        Example::good("a privileged container", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      securityContext: {privileged: true}
      env:
        - {name: NCCL_IB_HCA, value: mlx5}
      resources:
        limits: {nvidia.com/gpu: 8}
"),
        Example::bad("InfiniBand without its device", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: NCCL_IB_HCA
          value: mlx5
      resources:
        limits: {nvidia.com/gpu: 8}
", &[10]),
        Example::good("replicas that talk to nobody", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
          args: [--model, /models/a, --tensor-parallel-size, \"4\"]
          env:
            - {name: NCCL_IB_GID_INDEX, value: \"7\"}
          resources:
            limits: {nvidia.com/gpu: 4}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if container.init || !pod.complete || !container.has_accelerator() {
        return;
    }
    if network::is_privileged(container) || network::has_other_networks(pod) {
        return;
    }
    // A folder of devices from the node, or a variable in place of a resource's name.
    let unclear =
        container.resources().get("limits").entries().any(|entry| entry.key.contains('$'))
            || container.mount_of("/dev/infiniband").is_some();
    if unclear {
        return;
    }
    let table = &*network::TABLE;
    let device = network::rdma_resource(container);
    if device.is_none() {
        let efa = table.efa_variables.iter().find_map(|known| {
            let env = container.env(&known.name)?;
            known.values.iter().any(|value| env.value.is(value)).then_some(env)
        });
        let replica = matches!(pod.manager, Manager::Deployment | Manager::ReplicaSet)
            && !job::names_peers(container);
        let rdma = || {
            let off = container.env_value("NCCL_IB_DISABLE").is_some_and(|value| value != "0");
            let named = table.rdma_variables.iter().find_map(|name| {
                container.env(name).filter(|env| env.value.text().is_some_and(|v| !v.is_empty()))
            });
            // A node's whole network comes with its cards' names, not with the cards.
            named.filter(|_| !off && !replica && container.gpus() > 0 && !job::is_test(pod))
        };
        if let Some(env) = efa {
            report
                .at(
                    env.value,
                    format!(
                        "`{}={}` needs a device that container `{}` does not get: it asks for no `{}`",
                        env.name,
                        env.value.str(),
                        container.name,
                        table.efa_resource
                    ),
                )
                .fix(format!("ask for `{}` in `limits`", table.efa_resource));
        } else if let Some(env) = rdma() {
            report
                .at(
                    env.value,
                    format!(
                        "`{}` is about InfiniBand or RoCE, and container `{}` asks for no such device: NCCL fails, or uses TCP sockets without a word",
                        env.name, container.name
                    ),
                )
                .fix("ask for the `rdma/` resource of your device plugin in `limits`");
        }
        return;
    }
    // EFA's nodes let every process lock memory; other network cards need not be for RDMA.
    let is_rdma = |name: &str| name.contains("rdma") || name.contains("hca");
    let Some(device) = device.filter(|device| is_rdma(device.key())) else { return };
    if !network::may_lock_memory(container) {
        report
            .at(
                device,
                format!(
                    "`{}` needs memory that stays in place, and container `{}` may not lock any: registration fails with `unhandled system error`",
                    device.key(),
                    container.name
                ),
            )
            .fix("add `IPC_LOCK` to `securityContext.capabilities.add`");
    }
}
