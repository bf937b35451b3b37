use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Fraction of a device
    ///
    /// ## What it does
    /// Looks for numbers of accelerators that are not whole, such as `nvidia.com/gpu: 0.5`.
    ///
    /// ## Why it matters
    /// Kubernetes counts devices in whole numbers; the API server refuses the pod.
    ///
    /// ## How to fix it
    /// Share GPUs by what your cluster offers for it: a share that the device plugin announces
    /// (`nvidia.com/gpu.shared`), a MIG slice (`nvidia.com/mig-1g.5gb`), or a scheduler that knows
    /// fractions.
    GPU03, Error,
    evidence: "kubernetes/website, docs/concepts/configuration/manage-resources-containers: extended resources are whole numbers",
    check: Check::Container(check),
    examples: [
        Example::bad("half a GPU", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 0.5
", &[10]),
        Example::bad("half a GPU in thousandths", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu: 500m
", &[10]),
        Example::good("whole numbers", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits: {nvidia.com/gpu: \"2\", cpu: 500m}
"),
    ],
}

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    for device in &container.devices {
        // Of two equal ones one finding is enough.
        let node = device.node();
        let Some(asked) = node.quantity() else { continue };
        if asked.is_whole() {
            continue;
        }
        report
            .at(
                node,
                format!(
                    "the API server refuses this pod: it asks for {} of `{}`, and devices are counted in whole numbers",
                    node.str(),
                    device.name
                ),
            )
            .fix("ask for a whole device, or for a share or slice that the cluster announces under a name of its own");
    }
}
