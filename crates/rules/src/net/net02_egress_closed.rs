use crate::context::Context;
use crate::model::{Container, FrameworkKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

use super::closed_egress::reaches_internet;

rule! {
    /// Egress policy closes the way to the model's storage
    ///
    /// ## What it does
    /// Looks at pods that load a model from a hub or an object store (`vllm serve owner/name`,
    /// `storageUri: s3://…`) and are selected by network policies of which none lets connections
    /// out of the cluster on port 443.
    ///
    /// Silent where the pod may have another way: an endpoint or proxy in its environment,
    /// variables that come from elsewhere as a whole, offline mode, a cache on a volume, a peer of
    /// which it cannot be told what it is.
    ///
    /// ## Why it matters
    /// The download hangs until it times out, and the server never becomes ready.
    ///
    /// ## How to fix it
    /// Allow TCP port 443 to the addresses of the store (`ipBlock`), or load the model from a
    /// volume or from a store within the cluster.
    NET02, Error,
    evidence: "kubernetes/website, concepts/services-networking/network-policies: connections that no policy allows are refused once one selects the pod",
    check: Check::Container(check),
    examples: [
        Example::bad("a model of a hub behind a policy for the cluster only", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: llm}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, Qwen/Qwen2.5-7B-Instruct]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: llm}}
  policyTypes: [Egress]
  egress:
    - ports: [{protocol: UDP, port: 53}]
    - to:
        - podSelector: {matchLabels: {app: redis}}
", &[8]),
        Example::bad("an InferenceService that loads from S3", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a, labels: {app: llm}}
spec:
  predictor:
    model:
      modelFormat: {name: onnx}
      storageUri: s3://models/a
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: llm}}
  policyTypes: [Egress]
  egress:
    - to:
        - ipBlock: {cidr: 10.0.0.0/8}
", &[8]),
        Example::good("the way out is open on 443", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: llm}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, Qwen/Qwen2.5-7B-Instruct]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: llm}}
  policyTypes: [Egress]
  egress:
    - ports: [{protocol: TCP, port: 443}, {protocol: UDP, port: 53}]
"),
        Example::good("a mirror in the cluster", "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: llm}}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, Qwen/Qwen2.5-7B-Instruct]
      env: [{name: HF_ENDPOINT, value: http://hub.models.svc}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a}
spec:
  podSelector: {matchLabels: {app: llm}}
  policyTypes: [Egress]
  egress:
    - to: [{podSelector: {matchLabels: {app: hub}}}]
"),
    ],
}

/// Variables by which a download goes another way, or does not happen.
const OTHER_WAYS: [&str; 14] = [
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "S3_ENDPOINT",
    "S3_ENDPOINT_URL",
    "VLLM_USE_MODELSCOPE",
    "STORAGE_CONFIG",
];

fn check(context: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    let known = pod.complete || pod.manager == Manager::InferenceService;
    if !known || container.env_from || pod.spec.get("hostNetwork").bool() == Some(true) {
        return;
    }
    let Some((what, node)) = download(container) else { return };
    if OTHER_WAYS.iter().any(|name| container.env(name).is_some()) || has_cache(pod, container) {
        return;
    }
    let Some(mut policies) = context.bundle.policies_of(pod) else { return };
    policies.retain(|policy| policy.isolates_egress);
    let Some(policy) =
        policies.iter().find(|policy| context.bundle.distance(policy.object.root, node) <= 1)
    else {
        return;
    };
    let open =
        policies.iter().flat_map(|policy| policy.egress()).any(|rule| reaches_internet(rule, 443));
    if open {
        return;
    }
    report
        .at(
            node,
            format!(
                "the download from {what} hangs and the server never gets ready: NetworkPolicy `{}` lets nothing out of the cluster on port 443",
                policy.object.name
            ),
        )
        .fix("allow TCP port 443 to the store's addresses, or load the model from a volume or a store in the cluster");
}

/// What is loaded from outside of the cluster, and where that is said.
fn download<'b>(container: &Container<'b>) -> Option<(&'static str, Node<'b>)> {
    use FrameworkKind::{Lmdeploy, Sglang, Tei, Tgi, Vllm};
    let weights = container.weights()?;
    let id = &*weights.id;
    for (scheme, what) in
        [("s3://", "S3"), ("gs://", "Cloud Storage"), ("hf://", "Hugging Face"), ("az://", "Azure")]
    {
        if id.starts_with(scheme) && container.node.get("storageUri").is_set() {
            return Some((what, weights.node));
        }
    }
    let hub = [Vllm, Sglang, Tgi, Tei, Lmdeploy].iter().any(|kind| container.is(*kind));
    (hub && weights.is_hub_id()).then_some(("Hugging Face", weights.node))
}

/// Whether the cache of models lies on a volume that may hold the model already.
fn has_cache(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    container.node.get("volumeMounts").items().any(|mount| {
        pod.volume(mount.get("name").str()).is_none_or(|volume| {
            ["persistentVolumeClaim", "hostPath", "nfs", "csi", "image", "ephemeral"]
                .iter()
                .any(|source| volume.node.get(source).is_set())
        })
    })
}
