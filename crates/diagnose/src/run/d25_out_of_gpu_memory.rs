use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::view::View;

use super::gpu_memory::{hits, neighbour};

diagnosis! {
    /// The model does not fit into the GPU's memory
    ///
    /// ## Signature
    /// A container failed, and its log says `CUDA out of memory`, `torch.OutOfMemoryError`,
    /// `RESOURCE_EXHAUSTED: Out of memory`, or that no memory is left for the KV cache. Nobody else is
    /// known to use the GPU.
    ///
    /// ## Cause
    /// Weights, activations and cache together are larger than the card.
    ///
    /// ## How to mend it
    /// Shorter contexts or smaller batches, a quantised model, tensor parallel over more GPUs, or a
    /// larger card.
    D25, Error,
    needs: [Pods, Logs],
    rules: ["GPU05", "GPU11", "GPU04"],
    source: "pytorch/pytorch, vllm-project/vllm, jax-ml/jax: their messages",
    check: check,
}

fn check(view: &View<'_>, report: &mut Report) {
    for hit in hits(view) {
        if neighbour(view, &hit.pod).is_some() {
            continue;
        }
        let gpus = hit.pod.gpus();
        let asks = gpus.first().map_or_else(
            || "it asks for no GPU".to_owned(),
            |(resource, count)| format!("it has {} of `{resource}`", count.as_f64()),
        );
        let finding = report.at(
            hit.pod.object.reference(),
            format!(
                "container `{}` needs more GPU memory than there is: {asks}",
                hit.container.name()
            ),
        );
        finding.ended(&hit.pod, &hit.container).hit(&hit);
        if let Some(node) = view.node(hit.pod.node_name()) {
            for label in ["nvidia.com/gpu.product", "nvidia.com/gpu.memory"] {
                if let Some(value) = node.object.label(label) {
                    finding.value(node.object, &format!("metadata.labels.{label}"), value);
                }
            }
        }
        finding.advise("vLLM: lower `--max-model-len` or `--max-num-seqs`, raise `--gpu-memory-utilization` up to 0.95, or add `--quantization`");
        finding.advise(
            "training: a smaller batch, gradient checkpointing, or sharded state (FSDP, ZeRO)",
        );
        finding.advise("or `--tensor-parallel-size` over more GPUs, or a card with more memory");
    }
}
