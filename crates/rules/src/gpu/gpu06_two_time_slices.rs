use crate::context::Context;
use crate::edit::Edit;
use crate::model::{Container, DeviceKind, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// More than one share of a GPU
    ///
    /// ## What it does
    /// Looks for containers that ask for two or more of a shared GPU (`nvidia.com/gpu.shared`).
    ///
    /// ## Why it matters
    /// Shares are not added up: two time slices give no more compute than one, and may lie on two
    /// cards. With `failRequestsGreaterThanOne` the pod ends at once with `UnexpectedAdmissionError`.
    ///
    /// ## How to fix it
    /// Ask for 1; for more of a card ask for a whole one, or change the number of shares in the device
    /// plugin's configuration.
    GPU06, Warning,
    evidence: "NVIDIA/k8s-device-plugin README, With CUDA Time-Slicing: a request for more than one does not guarantee more compute",
    check: Check::Container(check),
    examples: [
        Example::bad("two shares", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu.shared: 2
", &[10]),
        Example::good("one share", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      resources:
        limits:
          nvidia.com/gpu.shared: 1
"),
    ],
}

fn check(_: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    for device in container.devices.iter().filter(|device| device.kind == DeviceKind::SharedGpu) {
        let Some(count) = device.count.filter(|count| *count > 1) else { continue };
        let edits = [device.request, device.limit].map(|node| Edit::replace(node, "1"));
        report
            .at(
                device.node(),
                format!(
                    "{count} shares of `{}` give no more compute than one, and where the device plugin has failRequestsGreaterThanOne the pod is refused",
                    device.name
                ),
            )
            .fix("ask for 1")
            .edit(edits.into_iter().flatten());
    }
}
