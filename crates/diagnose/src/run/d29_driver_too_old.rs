use crate::diagnosis::diagnosis;
use crate::matching::{has_any, of_failed};
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The image's CUDA is newer than the node's driver
    ///
    /// ## Signature
    /// A container failed, and its log says `CUDA driver version is insufficient for CUDA runtime
    /// version`, `The NVIDIA driver on your system is too old`, or `cudaErrorInsufficientDriver`.
    ///
    /// ## Cause
    /// Each major version of CUDA needs a driver of at least some version.
    ///
    /// ## How to mend it
    /// Update the node's driver, or use an image with an older CUDA.
    D29, Error,
    needs: [Pods, Logs],
    rules: ["GPU26"],
    source: "NVIDIA, CUDA compatibility; pytorch/pytorch's message",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let hits = of_failed(view, |line| {
        has_any(
            line,
            &[
                "cuda driver version is insufficient",
                "cudaerrorinsufficientdriver",
                "nvidia driver on your system is too old",
                "provided ptx was compiled with an unsupported toolchain",
            ],
        )
    });
    for hit in hits {
        let node = view.node(hit.pod.node_name());
        let version = node.and_then(|node| node.driver_version());
        let has = version.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
        let finding = report.at(
            hit.pod.object.reference(),
            format!(
                "the image `{}` needs a newer driver than that of node `{}`{has}",
                hit.container.image(),
                hit.pod.node_name()
            ),
        );
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        if let (Some(node), Some(version)) = (node, version) {
            finding.value(node.object, "metadata.labels (driver version)", version);
        }
        finding.advise("update the driver of the node, or use an image with an older CUDA");
        finding.advise(
            "to keep the pod to nodes that fit: node affinity on `nvidia.com/cuda.driver.major`",
        );
    }
}
