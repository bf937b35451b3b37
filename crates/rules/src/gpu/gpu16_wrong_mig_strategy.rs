use crate::context::Context;
use crate::model::{Container, DeviceKind, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// MIG slice under the wrong strategy
    ///
    /// ## What it does
    /// Looks for MIG slices (`nvidia.com/mig-1g.5gb`) where a GPU operator's ClusterPolicy or a device
    /// plugin in the same folder announces none (strategy `single` or `none`), and for containers that
    /// ask for a slice and a whole GPU at once.
    ///
    /// ## Why it matters
    /// Under strategy `single` slices are announced as `nvidia.com/gpu`, under `none` not at all: the
    /// pod stays Pending. And a CUDA process that sees a slice sees nothing but that slice, so the
    /// whole GPU beside it is never used.
    ///
    /// ## How to fix it
    /// Ask for `nvidia.com/gpu` under `single`, or set the strategy to `mixed`. Put the slice and the
    /// whole GPU in two containers.
    GPU16, Error,
    evidence: "NVIDIA/k8s-device-plugin README, migStrategy; NVIDIA MIG user guide, CUDA device enumeration",
    check: Check::Container(check),
    examples: [
        Example::bad("a slice that is not announced", "\
apiVersion: nvidia.com/v1
kind: ClusterPolicy
metadata: {name: p}
spec:
  mig: {strategy: single}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/mig-1g.5gb: 1
", &[16]),
        Example::bad("a slice and a whole GPU", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 1
          nvidia.com/mig-1g.5gb: 1
", &[11]),
        Example::good("strategy mixed", "\
apiVersion: nvidia.com/v1
kind: ClusterPolicy
metadata: {name: p}
spec:
  mig: {strategy: mixed}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/mig-1g.5gb: 1
"),
    ],
}

fn check(context: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let Some(slice) = container.device(DeviceKind::Mig) else { return };
    if container.device(DeviceKind::Gpu).is_some() {
        report
            .at(
                slice.node(),
                format!("CUDA shows a process either `{}` or the whole GPU beside it, never both: one of them stays unused", slice.name),
            )
            .fix("ask for one of the two, or use two containers");
    }
    let Some(strategy) = strategy(context, container) else { return };
    report
        .at(
            slice.node(),
            format!(
                "pods stay Pending: the device plugin here has the MIG strategy `{strategy}`, which announces no `{}`",
                slice.name
            ),
        )
        .fix(if strategy == "single" {
            "ask for `nvidia.com/gpu`, or set the strategy to `mixed`"
        } else {
            "set the strategy to `mixed`"
        });
}

/// The strategy of a device plugin near by that announces no slices by name.
fn strategy<'b>(context: &Context<'b>, container: &Container<'_>) -> Option<&'b str> {
    let of_policy = context
        .bundle
        .near("ClusterPolicy", container.node)
        .filter(|policy| policy.group() == "nvidia.com")
        .filter_map(|policy| policy.root.path("spec.mig.strategy").text());
    let of_plugin = context
        .bundle
        .near("DaemonSet", container.node)
        .flat_map(|set| context.bundle.pods_of(set))
        .flat_map(|pod| pod.main_containers())
        .filter(|plugin| plugin.image.is_some_and(|i| i.repository.ends_with("k8s-device-plugin")))
        .filter_map(|plugin| plugin.env("MIG_STRATEGY").and_then(|env| env.value.text()));
    of_policy.chain(of_plugin).find(|strategy| matches!(*strategy, "single" | "none"))
}
