use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{has_any, of_any};
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// A pod that had a GPU has lost its access to it
    ///
    /// ## Signature
    /// A container's log says `Failed to initialize NVML: Unknown Error`, or that a CUDA device is gone,
    /// after it had worked.
    ///
    /// ## Cause
    /// systemd wrote the container's cgroup anew (a `daemon-reload`), and the devices that the toolkit
    /// had added are not among its rules.
    ///
    /// ## How to mend it
    /// Make the pod anew. To keep it from happening: CDI, or links for the device files in
    /// `/dev/char`, or the cgroupfs driver.
    D34, Error,
    needs: [Pods, Logs],
    source: "NVIDIA/gpu-operator#485, NVIDIA/nvidia-container-toolkit#48",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for hit in of_any(view, |line| has_any(line, &["failed to initialize nvml: unknown error"])) {
        if hit.pod.phase() == "Succeeded" || hit.pod.object.is_ending() {
            continue;
        }
        let object = hit.pod.object.reference();
        let finding = report.at(
            object.clone(),
            format!(
                "container `{}` has lost its GPU; other containers of the node may have too",
                hit.container.name()
            ),
        );
        finding.sure(Confidence::Likely);
        finding.hit(&hit);
        finding.field(hit.pod.object, "/spec/nodeName");
        finding.run(format!("kubectl -n {} delete pod {}", object.namespace, object.name));
        finding.advise("turn CDI on in the container toolkit (`cdi.enabled=true` of the GPU operator), so that a reload of systemd does not take devices away");
    }
}
