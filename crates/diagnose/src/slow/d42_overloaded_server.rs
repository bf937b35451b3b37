use std::collections::BTreeMap;

use crate::answer::{Confidence, ObjectRef};
use crate::diagnosis::diagnosis;
use crate::report::Report;
use crate::snapshot::Sample;
use crate::view::View;

use super::d40_idle_gpu::metric;
use super::gpu_samples::pod_of;

diagnosis! {
    /// A model server gets more than it can do
    ///
    /// ## Signature
    /// Requests wait in the server's queue and its KV cache is used by more than 95% (vLLM, SGLang); or
    /// Triton has requests pending and a queue that is longer than what it works on.
    ///
    /// ## Cause
    /// More requests at once, or longer ones, than the GPU's memory holds; vLLM then preempts requests
    /// and computes them again.
    ///
    /// ## How to mend it
    /// More replicas, a limit of requests at the gateway, shorter contexts.
    D42, Warning,
    needs: [Pods, Metrics],
    rules: ["SCL01", "SCL13"],
    source: "vllm-project/vllm, metrics: num_requests_waiting, kv_cache_usage_perc (before: gpu_cache_usage_perc); sgl-project/sglang: num_queue_reqs, token_usage; triton: nv_inference_pending_request_count",
    check: check,
}

/// Names of the queue and of the cache, by server.
const SERVERS: [(&str, &[&str]); 2] = [
    ("vllm:num_requests_waiting", &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"]),
    ("sglang:num_queue_reqs", &["sglang:token_usage"]),
];
/// The share of the cache above which requests wait for it.
const FULL: f64 = 0.95;

fn check(view: &View<'_>, report: &mut Report) {
    for (queue, caches) in SERVERS {
        let mut waiting: BTreeMap<ObjectRef, &Sample> = BTreeMap::new();
        for sample in view.samples(queue).filter(|it| it.value > 0.0) {
            if let Some(pod) = pod_of(view, sample) {
                waiting.insert(pod.object.reference(), sample);
            }
        }
        for cache in caches.iter().flat_map(|name| view.samples(name)).filter(|it| it.value > FULL)
        {
            let Some(pod) = pod_of(view, cache) else { continue };
            let Some(queue) = waiting.remove(&pod.object.reference()) else { continue };
            let finding = report.at(
                pod.object.reference(),
                format!(
                    "{} requests wait, and the KV cache is used by {:.0}%",
                    queue.value,
                    cache.value * 100.0
                ),
            );
            finding.sure(Confidence::Likely);
            finding.evidence(metric(queue)).evidence(metric(cache));
            let preempted = view
                .samples("vllm:num_preemptions_total")
                .chain(view.samples("vllm:num_preemptions"));
            let own = |it: &&Sample| {
                pod_of(view, it)
                    .is_some_and(|other| other.object.reference() == pod.object.reference())
            };
            for sample in preempted.filter(own).filter(|it| it.value > 0.0) {
                finding.evidence(metric(sample));
                finding.because("requests were preempted: their work is done twice");
            }
            finding.advise("add replicas, or scale by requests in flight (`scaling.concurrency` of a ModelService)");
            finding.advise("or refuse what is too much: a rate at the gateway, a smaller `--max-num-seqs`, a shorter `--max-model-len`");
        }
    }
    for sample in view.samples("nv_inference_pending_request_count").filter(|it| it.value > 100.0) {
        let Some(pod) = pod_of(view, sample) else { continue };
        let finding = report.at(
            pod.object.reference(),
            format!("{} requests wait in Triton's queue", sample.value),
        );
        finding.sure(Confidence::Possible);
        finding.evidence(metric(sample));
        finding.advise(
            "add replicas or instances (`instance_group`), or limit the queue (`max_queue_size`)",
        );
    }
}
