use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::has_any;
use crate::report::Report;
use crate::view::{View, text};

diagnosis! {
    /// The container runtime cannot give the GPU to the container
    ///
    /// ## Signature
    /// A container could not be created or started, and the message names `nvidia-container-cli`,
    /// `nvidia-container-runtime` or an unresolvable CDI device.
    ///
    /// ## Cause
    /// The node's driver does not answer or does not fit its libraries (an update without a reboot), or
    /// the image asks for a newer CUDA than the driver has (`unsatisfied condition: cuda>=…`), or CDI
    /// specifications are stale.
    ///
    /// ## How to mend it
    /// Look for Xid errors on the node; reboot it after a driver update; use an image for the driver.
    D22, Error,
    needs: [Pods, Events],
    rules: ["GPU26"],
    source: "NVIDIA/nvidia-container-toolkit, messages of nvidia-container-cli",
    check: check,
}

const WORDS: [&str; 4] =
    ["nvidia-container-cli", "nvidia-container-runtime", "unresolvable cdi devices", "nvidia-ctk"];

fn check(view: &View<'_>, report: &mut Report) {
    for pod in view.pods().iter().filter(|pod| pod.phase() != "Succeeded") {
        for container in pod.containers() {
            if container.status.pointer("/state/running").is_some() {
                continue;
            }
            let ended = container.ended().map_or("", |(ended, _)| text(ended, "/message"));
            let said =
                [container.waiting_message(), ended].into_iter().find(|it| has_any(it, &WORDS));
            let event = view.events_of(pod.object).iter().find(|event| {
                event.container() == container.name() && has_any(event.message, &WORDS)
            });
            let Some(message) = said.or(event.map(|event| event.message)) else { continue };
            let node = pod.node_name();
            let (why, fix) =
                if has_any(message, &["unsatisfied condition: cuda", "requirement error"]) {
                    (
                        "the image asks for a newer CUDA than the driver has",
                        "use an image for the driver, or update the driver",
                    )
                } else if has_any(message, &["driver/library version mismatch", "driver rpc error"])
                {
                    (
                        "the driver in the kernel is not the one on the disk",
                        "reboot the node: its driver was updated",
                    )
                } else if has_any(message, &["unknown device", "unresolvable cdi"]) {
                    (
                        "the device is not known to the runtime",
                        "restart the node's container toolkit and device plugin pods",
                    )
                } else {
                    (
                        "the driver does not answer",
                        "look for Xid errors in the node's kernel log: `trainyard agent --probe`",
                    )
                };
            let finding = report.at(
                pod.object.reference(),
                format!("container `{}` does not get its GPU on `{node}`: {why}", container.name()),
            );
            finding.sure(Confidence::Likely);
            finding.field(pod.object, &container.path("/state/waiting/reason"));
            match event {
                Some(event) => finding.event(event),
                None => finding.because(crate::report::shorten(message)),
            };
            if let Some(node) = view.node(node)
                && let Some(version) = node.driver_version()
            {
                finding.value(node.object, "metadata.labels (driver version)", version);
            }
            finding.advise(fix);
        }
    }
}
