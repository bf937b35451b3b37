use super::load_time;
use crate::context::Context;
use crate::model::{Container, Pod, is_below};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Model cache that may fill the node's disk
    ///
    /// ## What it does
    /// Looks for `emptyDir` volumes without `sizeLimit` in which a server keeps downloaded weights,
    /// where the container has no request or limit for `ephemeral-storage`. Silent about caches beside
    /// a model that lies on another volume.
    ///
    /// ## Why it matters
    /// Tens of gigabytes land on the node's disk, and the scheduler knows nothing of them. When the
    /// disk runs short the kubelet evicts pods, this one first, and the download starts over on the
    /// next node.
    ///
    /// ## How to fix it
    /// Set `sizeLimit` on the volume and request `ephemeral-storage` of the size of the weights.
    SRV18, Warning,
    evidence: "kubernetes/website, docs/concepts/configuration/manage-resources-containers, local ephemeral storage",
    check: Check::Container(check),
    examples: [
        Example::bad("no limit", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      volumeMounts:
        - {name: cache, mountPath: /root/.cache/huggingface}
  volumes:
    - name: cache
      emptyDir: {}
", &[12]),
        Example::good("a limit", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      volumeMounts:
        - {name: cache, mountPath: /root/.cache/huggingface}
  volumes:
    - name: cache
      emptyDir: {sizeLimit: 50Gi}
"),
        Example::good("a request", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      resources: {requests: {ephemeral-storage: 50Gi}}
      volumeMounts:
        - {name: cache, mountPath: /root/.cache/huggingface}
  volumes:
    - name: cache
      emptyDir: {}
"),
        Example::good("a cache of compiled code beside a model on the host", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, /models/Qwen3-8B]
      volumeMounts:
        - {name: models, mountPath: /models, readOnly: true}
        - {name: cache, mountPath: /.cache}
  volumes:
    - name: models
      hostPath: {path: /data/models}
    - name: cache
      emptyDir: {}
"),
        Example::good("downloads go to a claim", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, a/b, --download-dir, /models-cache]
      volumeMounts:
        - {name: models, mountPath: /models-cache}
        - {name: cache, mountPath: /.cache}
  volumes:
    - name: models
      persistentVolumeClaim: {claimName: models}
    - name: cache
      emptyDir: {}
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !pod.complete || !load_time::is_server(pod, container) {
        return;
    }
    // A download in an init container lands in the same volume.
    let bounded =
        pod.containers.iter().any(|container| container.request("ephemeral-storage").is_some());
    if bounded {
        return;
    }
    for mount in container.node.get("volumeMounts").items() {
        let path = mount.get("mountPath").str();
        let Some(volume) = pod.volume(mount.get("name").str()) else { continue };
        let empty = volume.node.get("emptyDir");
        let is_disk = empty.exists() && !empty.get("medium").is("Memory");
        if !is_disk || empty.get("sizeLimit").is_set() || !holds_weights(container, path) {
            continue;
        }
        report
            .at(
                empty,
                format!("the pod is evicted when the weights in `{path}` fill the node's disk: neither the volume nor the container says how much they need"),
            )
            .fix("set sizeLimit, and request ephemeral-storage of the size of the weights");
    }
}

/// Whether a folder is where a server keeps what it downloads.
fn holds_weights(container: &Container<'_>, path: &str) -> bool {
    const VARIABLES: [&str; 4] =
        ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"];
    let is_here = |value: &str| value.trim_end_matches('/') == path.trim_end_matches('/');
    let told: Vec<_> = VARIABLES
        .iter()
        .filter_map(|name| container.env_value(name))
        .chain(container.flag(&["--download-dir"]).and_then(|flag| flag.value))
        .collect();
    if !told.is_empty() {
        return told.iter().any(|value| is_here(value));
    }
    // What is loaded from a path elsewhere is not kept here, whatever the folder is called.
    let elsewhere = container.flags().any(|flag| {
        let names_model = matches!(flag.name.trim_start_matches('-'), "model" | "model-path");
        let value = flag.value.as_deref().unwrap_or_default();
        names_model && value.starts_with('/') && !is_below(value, path)
    }) || container
        .weights()
        .is_some_and(|weights| weights.id.starts_with('/') && !is_below(&weights.id, path));
    let lower = path.to_ascii_lowercase();
    !elsewhere
        && ["huggingface", "/models", "/model", "/.cache", "/hub", "modelscope"]
            .iter()
            .any(|word| lower.contains(word))
}
