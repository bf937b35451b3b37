use crate::answer::Confidence;
use crate::diagnosis::diagnosis;
use crate::matching::{has_any, of_failed};
use crate::report::Report;
use crate::view::{View, list, text};

diagnosis! {
    /// The program sees no GPU
    ///
    /// ## Signature
    /// A container failed, and its log says `No CUDA GPUs are available`, `Failed to infer device
    /// type`, `no CUDA-capable device is detected`, or that libcuda was not found.
    ///
    /// ## Cause
    /// The pod asks for no GPU; or it does, and a variable hides the GPU (`CUDA_VISIBLE_DEVICES`,
    /// `NVIDIA_VISIBLE_DEVICES`), or it did not run with NVIDIA's runtime.
    ///
    /// ## How to mend it
    /// Ask for a GPU; take the variable out; set `runtimeClassName: nvidia`.
    D30, Error,
    needs: [Pods, Logs],
    rules: ["GPU12", "GPU13", "GPU23"],
    yields_to: ["D29", "D34"],
    source: "vllm-project/vllm and pytorch/pytorch: their messages",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    let hits = of_failed(view, |line| {
        has_any(
            line,
            &[
                "no cuda gpus are available",
                "failed to infer device type",
                "no cuda-capable device is detected",
                "libcuda.so.1: cannot open shared object",
                "found no nvidia driver on your system",
            ],
        )
    });
    for hit in hits {
        let gpus = hit.pod.gpus();
        let hiding = list(hit.container.spec, "/env").iter().find(|it| {
            matches!(text(it, "/name"), "CUDA_VISIBLE_DEVICES" | "NVIDIA_VISIBLE_DEVICES")
                && it.get("value").is_some()
        });
        let class = hit.pod.object.text("/spec/runtimeClassName");
        let why = if gpus.is_empty() {
            "the pod asks for none".to_owned()
        } else if let Some(env) = hiding {
            format!("`{}` is set to `{}` by hand", text(env, "/name"), text(env, "/value"))
        } else if class.is_empty() {
            "it did not run with NVIDIA's container runtime, which is not the node's default"
                .to_owned()
        } else {
            "the GPU that it was given does not answer".to_owned()
        };
        let finding = report.at(
            hit.pod.object.reference(),
            format!("container `{}` sees no GPU: {why}", hit.container.name()),
        );
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        if gpus.is_empty() {
            finding.value(
                hit.pod.object,
                &format!("spec.containers[{}].resources", hit.container.name()),
                hit.container.spec.get("resources").cloned().unwrap_or_default(),
            );
            finding.advise("set `nvidia.com/gpu: 1` in the container's limits");
        } else if let Some(env) = hiding {
            finding.value(
                hit.pod.object,
                &format!("spec.containers[{}].env", hit.container.name()),
                env.clone(),
            );
            finding.advise(format!("take `{}` out: the device plugin sets it", text(env, "/name")));
        } else if class.is_empty() {
            finding.sure(Confidence::Likely);
            finding.mend(crate::patch::pod_spec(
                view,
                &hit.pod,
                serde_json::json!({"runtimeClassName": "nvidia"}),
            ));
        } else {
            finding.sure(Confidence::Possible);
            finding
                .advise(format!("look at the node: trainyard doctor node/{}", hit.pod.node_name()));
        }
    }
}
