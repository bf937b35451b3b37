use crate::diagnosis::diagnosis;
use crate::matching::{has_all, has_any, of_failed};
use crate::report::Report;
use crate::view::View;

diagnosis! {
    /// The program in the image was not built for this GPU
    ///
    /// ## Signature
    /// A container failed, and its log says `no kernel image is available for execution on the device`,
    /// or that a capability (`sm_…`) is not compatible.
    ///
    /// ## Cause
    /// The library holds code for some compute capabilities, and the card has an older or a newer one.
    ///
    /// ## How to mend it
    /// Use an image whose framework was built for the card, or select nodes with a card that it knows.
    D28, Error,
    needs: [Pods, Logs],
    rules: ["GPU26", "GPU11"],
    source: "CUDA's error cudaErrorNoKernelImageForDevice; pytorch/pytorch's warning on capabilities",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let hits = of_failed(view, |line| {
        has_any(line, &["no kernel image is available", "cudaerrornokernelimagefordevice"])
            || has_all(line, &["cuda capability sm_", "not compatible"])
            || has_all(line, &["unsupported gpu architecture"])
    });
    for hit in hits {
        let node = view.node(hit.pod.node_name());
        let product =
            node.and_then(|node| node.object.label("nvidia.com/gpu.product")).unwrap_or("card");
        let finding = report.at(
            hit.pod.object.reference(),
            format!(
                "the image `{}` has no code for the {product} of node `{}`",
                hit.container.image(),
                hit.pod.node_name()
            ),
        );
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        if let Some(node) = node {
            for label in [
                "nvidia.com/gpu.product",
                "nvidia.com/gpu.compute.major",
                "nvidia.com/gpu.compute.minor",
            ] {
                if let Some(value) = node.object.label(label) {
                    finding.value(node.object, &format!("metadata.labels.{label}"), value);
                }
            }
        }
        finding.advise("use an image whose framework supports the card's compute capability");
        finding.advise("or select nodes by `nvidia.com/gpu.product`");
    }
}
