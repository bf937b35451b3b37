use super::cache;
use super::load_time;
use crate::context::Context;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Weights fetched from the internet at each start
    ///
    /// ## What it does
    /// Looks for servers that are given a name on a model hub (`owner/model`) and mount no volume that
    /// outlives the pod: no claim, no host path, no image or network volume.
    ///
    /// ## Why it matters
    /// Every start downloads the weights again: cold starts take minutes, a scale-up stands in the
    /// queue of the hub's rate limit, and when the hub is away nothing starts.
    ///
    /// ## How to fix it
    /// Keep the cache on a PersistentVolumeClaim (`HF_HOME`), mount the model as an image volume, or
    /// let an init container copy it from your own store.
    SRV12, Warning,
    evidence: "huggingface.co/docs/huggingface_hub, cache and HF_HOME; kubernetes/website, image volumes; judgement",
    check: Check::Container(check),
    examples: [
        Example::bad("no volume", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, mistralai/Mistral-7B-v0.1]
      resources: {limits: {nvidia.com/gpu: 1}}
", &[8]),
        Example::good("a claim", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, mistralai/Mistral-7B-v0.1]
      volumeMounts: [{name: cache, mountPath: /root/.cache/huggingface}]
  volumes: [{name: cache, persistentVolumeClaim: {claimName: c}}]
"),
        Example::good("a path", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, /models/mistral]
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !pod.complete || !load_time::is_server(pod, container) || cache::outlives_pod(pod, container)
    {
        return;
    }
    let Some(weights) = container.weights().filter(|weights| weights.is_hub_id()) else { return };
    // A mirror within the cluster, or weights that are in the image.
    let elsewhere =
        ["HF_ENDPOINT", "HF_HUB_OFFLINE", "VLLM_USE_MODELSCOPE", "TRANSFORMERS_OFFLINE"];
    if elsewhere.iter().any(|name| container.env(name).is_some())
        || container.flag(&["--load-format"]).is_some()
        || pod.containers.iter().any(|other| other.init)
    {
        return;
    }
    report
        .at_span(
            weights.node,
            weights.node.find(&weights.id),
            format!("every start fetches `{}` from the model hub again, which takes minutes and fails when the hub is slow or limits rates: no volume keeps it", weights.id),
        )
        .fix("keep the cache (`HF_HOME`) on a PersistentVolumeClaim, or mount the model as a volume");
}
