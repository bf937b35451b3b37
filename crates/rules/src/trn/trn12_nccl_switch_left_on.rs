use super::network::{self, When};
use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, DeviceKind, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// A setting for finding NCCL's faults that was left on
    ///
    /// ## What it does
    /// Looks for variables that turn NCCL's fast paths off, where the container has what they turn
    /// off, and for `NCCL_DEBUG=TRACE`: `NCCL_P2P_DISABLE` and `NCCL_SHM_DISABLE` with several GPUs,
    /// `NCCL_IB_DISABLE` and `NCCL_NET_GDR_LEVEL=LOC` with a card for RDMA.
    ///
    /// ## Why it matters
    /// They are tried one after the other when a job hangs, and then stay. Collectives become
    /// several times slower, which no error tells.
    ///
    /// ## How to fix it
    /// Remove the variable, or say in a comment why the hardware needs it.
    TRN12, Warning,
    evidence: "docs.nvidia.com NCCL user guide, environment variables: not for production use",
    check: Check::Container(check),
    examples: [
        Example::bad("no peer access and a trace", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: NCCL_DEBUG
          value: TRACE
        - name: NCCL_P2P_DISABLE
          value: '1'
      resources:
        limits: {nvidia.com/gpu: 8}
", &[10, 12]),
        Example::bad("InfiniBand is there and not used", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - {name: NCCL_IB_DISABLE, value: '1'}
      resources:
        limits: {nvidia.com/gpu: 1, rdma/hca_shared_devices_a: 1}
", &[9]),
        Example::good("there is no InfiniBand", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - {name: NCCL_IB_DISABLE, value: '1'}
        - {name: NCCL_DEBUG, value: INFO}
        - {name: NCCL_P2P_DISABLE, value: '1'}
      resources:
        limits: {nvidia.com/gpu: 1}
"),
        Example::good("switched to what is the default", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - {name: NCCL_P2P_DISABLE, value: '0'}
      resources:
        limits: {nvidia.com/gpu: 8}
"),
    ],
}

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let gpus = container.device(DeviceKind::Gpu).and_then(|device| device.count).unwrap_or(0);
    for switch in &network::TABLE.switches {
        let Some(env) = container.env(&switch.name) else { continue };
        let Some(value) = env.value.text() else { continue };
        let applies = match switch.when {
            When::Always => container.has_accelerator(),
            When::SeveralGpus => gpus > 1,
            When::Rdma => network::rdma_resource(container).is_some(),
        };
        if !applies || !switch.values.iter().any(|known| known == value) {
            continue;
        }
        let edit = if switch.when == When::Always {
            Edit::replace(env.value, "WARN")
        } else if matches!(value, "1" | "true" | "True") {
            Edit::replace(env.value, "\"0\"")
        } else {
            None
        };
        let name = &switch.name;
        report
            .at(env.value, format!("with `{name}={value}` {}", switch.harm))
            .fix(format!("remove `{name}`"))
            .edit(edit);
    }
}
