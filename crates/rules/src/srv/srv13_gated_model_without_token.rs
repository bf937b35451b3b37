use super::cache;
use crate::admission::Policy;
use crate::context::Context;
use crate::facts;
use crate::model::{Container, Pod, Purpose, glob};
use crate::report::Report;
use crate::rule::{Check, Example, Level, rule};
use serde::Deserialize;
use std::sync::LazyLock;

rule! {
    /// Gated model without a token, or a token in plain text
    ///
    /// ## What it does
    /// Looks for models that the hub gives only to accounts that accepted a licence
    /// (data/lint/gated-models.json) on containers without a token, and for tokens of model hubs
    /// written as a literal. A placeholder for one (`${HF_TOKEN}`, `<your-token>`) is a warning.
    ///
    /// ## Why it matters
    /// Without a token the download is refused with 401 and the server never starts. A token in a
    /// manifest is in the repository, in the cluster's history and in every `kubectl describe`.
    ///
    /// ## How to fix it
    /// Put the token into a Secret and refer to it: `valueFrom: {secretKeyRef: {name: hf, key:
    /// token}}`.
    SRV13, Error,
    evidence: "huggingface.co/docs/hub/models-gated; huggingface_hub, environment variables HF_TOKEN; kubernetes/website, docs/concepts/configuration/secret",
    check: Check::Container(check),
    policy: Policy {
        expression: "\
variables.all.all(c, !has(c.env) || c.env.all(e,
  !(e.name in ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HUGGINGFACE_TOKEN', 'HUGGINGFACEHUB_API_TOKEN', 'HF_API_TOKEN', 'HUGGINGFACE_HUB_TOKEN'])
  || !has(e.value) || e.value.trim() == ''
  || e.value.matches('(?i)[<>$ {}]|your|token|placeholder|replace|xxx|change|insert|todo|fake|dummy')))",
        message: "a token of a model hub is written as a literal, for everybody who reads the manifest or the pod. Put it into a Secret and use `valueFrom.secretKeyRef`",
        misses: &["no token", "a placeholder"],
        of_daemons: true,
    },
    examples: [
        Example::bad("no token", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, meta-llama/Llama-3.1-8B-Instruct]
      resources: {limits: {nvidia.com/gpu: 1}}
", &[8]),
        Example::bad("a token in plain text", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      env:
        - name: HF_TOKEN
          value: hf_abcdefghijklmnop
", &[10]),
        Example::good("a token from a Secret", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, meta-llama/Llama-3.1-8B-Instruct]
      env:
        - name: HF_TOKEN
          valueFrom: {secretKeyRef: {name: hf, key: token}}
"),
        Example::good("an open model", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, Qwen/Qwen2.5-7B]
"),
        Example::bad("a placeholder", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      env:
        - name: HF_TOKEN
          value: ${HF_TOKEN}
", &[10]),
    ],
}

#[derive(Deserialize)]
struct Models {
    /// Globs over names on the hub.
    gated: Vec<String>,
}

static MODELS: LazyLock<Models> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/gated-models.json")));

/// Variables that hold a token of a model hub.
const TOKENS: [&str; 6] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACE_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "HF_API_TOKEN",
    "HUGGINGFACE_HUB_TOKEN",
];

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    for env in container.env.iter().filter(|env| TOKENS.contains(&env.name)) {
        let Some(value) = env.value.text().map(str::trim) else { continue };
        // A reference to another variable, which may come from a Secret.
        if value.is_empty() || value.starts_with("$(") {
            continue;
        }
        let fix = "put it into a Secret and use `valueFrom.secretKeyRef`";
        if is_placeholder(value) {
            report
                .at(
                    env.value,
                    format!("whoever fills in `{}` here writes the token in plain text, for everybody who reads the manifest or the pod", env.name),
                )
                .fix(fix)
                .level(Level::Warning);
        } else {
            report
                .at(
                    env.value,
                    format!("the token is readable by everybody who reads the manifest or the pod: `{}` is written as a literal", env.name),
                )
                .fix(fix);
        }
    }
    // Clients name the model that they ask for, and load nothing.
    let loads = container.has_accelerator()
        || container.framework.is_some_and(|found| found.purpose() == Purpose::Serving);
    let Some(weights) = container.weights().filter(|_| loads) else { return };
    let Some(id) = weights.hub_id() else { return };
    if !MODELS.gated.iter().any(|pattern| glob(pattern, id)) {
        return;
    }
    // The token may come from a file, a script, or the weights may be there already.
    let secret = pod.volumes().any(|volume| {
        volume.node.get("secret").is_set()
            || volume.node.get("projected").is_set()
            || volume.node.get("csi").is_set()
    });
    let has_token = container.env.iter().any(|env| {
        env.name.contains("TOKEN") || env.name == "HF_ENDPOINT" || env.name == "HF_HUB_OFFLINE"
    }) || container.env_from
        || container.words.iter().any(|word| {
            word.text.contains("TOKEN")
                || word.text.contains("hf auth")
                || word.text.contains("huggingface-cli")
        });
    let prepared =
        pod.containers.iter().any(|other| other.init) || cache::outlives_pod(pod, container);
    if !pod.complete || secret || has_token || prepared {
        return;
    }
    report
        .at_span(
            weights.node,
            weights.node.find(&weights.id),
            format!("the download is refused with 401 and the server does not start: `{id}` is gated, and the container has no token"),
        )
        .fix("accept the licence on the model's page, put the token into a Secret, and set HF_TOKEN by `valueFrom.secretKeyRef`");
}

/// Whether a value stands for a token that is filled in later.
fn is_placeholder(value: &str) -> bool {
    const WORDS: [&str; 10] = [
        "your",
        "token",
        "placeholder",
        "replace",
        "xxx",
        "change",
        "insert",
        "todo",
        "fake",
        "dummy",
    ];
    let lower = value.to_ascii_lowercase();
    value.contains(['<', '>', '$', ' ', '{', '}']) || WORDS.iter().any(|word| lower.contains(word))
}
