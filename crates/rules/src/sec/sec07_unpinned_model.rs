use crate::context::Context;
use crate::model::{Container, FrameworkKind, Pod, Weights};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Model without a pinned revision
    ///
    /// ## What it does
    /// Looks at servers that load a model from a hub by name (vLLM, SGLang, TGI, TEI, LMDeploy;
    /// `hf://owner/name` and `oci://image` of KServe) and name no commit, tag or digest.
    ///
    /// Silent for paths, and in offline mode, where what is loaded lies in a cache.
    ///
    /// ## Why it matters
    /// The name means whatever its owner published last. A restart may load other weights, another
    /// chat template or other code than what was tested, and two replicas may serve two models.
    ///
    /// ## How to fix it
    /// Add `--revision` with a commit of the model's repository (`hf://owner/name:commit`), and a
    /// digest to an image.
    SEC07, Warning,
    evidence: "docs.vllm.ai, engine arguments: --revision; huggingface/text-generation-inference, launcher: --revision; kserve/website, storage providers: hf://owner/model:revision",
    check: Check::Container(check),
    examples: [
        Example::bad("a name on a hub", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, Qwen/Qwen2.5-7B-Instruct]
", &[8]),
        Example::bad("a URI of a hub", "\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    model:
      modelFormat: {name: huggingface}
      storageUri: hf://Qwen/Qwen2.5-7B-Instruct
", &[8]),
        Example::good("a commit", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, Qwen/Qwen2.5-7B-Instruct, --revision, a09a35458c702b33eeacc393d103063234e8bc28]
"),
        Example::good("a path", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: vllm/vllm-openai:v0.9.0
      args: [--model, /models/qwen]
"),
    ],
}

fn check(_: &Context<'_>, pod: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !pod.serves() {
        return;
    }
    let Some(weights) = container.weights() else { return };
    let id = &*weights.id;
    let uri = container.node.get("storageUri").is_set();
    let message = if uri && let Some(name) = id.strip_prefix("hf://") {
        if name.contains([':', '@']) {
            return;
        }
        format!("a restart may load another model than what was tested: `{name}` names no revision")
    } else if uri && let Some(image) = id.strip_prefix("oci://") {
        if image.contains('@') {
            return;
        }
        format!(
            "a restart may load another model than what was tested: the tag of `{image}` can be moved"
        )
    } else if loads_by_name(container, &weights) {
        let name = weights.hub_id().unwrap_or(id);
        format!(
            "a restart may load another model than what was tested: `{name}` means what its owner published last"
        )
    } else {
        return;
    };
    report.at_span(weights.node, weights.node.find(id), message).fix(if uri {
        "add `:` and a commit of the repository, or `@` and a digest"
    } else {
        "add `--revision` with a commit of the model's repository"
    });
}

/// Whether a server fetches what a hub has under a name now.
fn loads_by_name(container: &Container<'_>, weights: &Weights<'_>) -> bool {
    use FrameworkKind::{KserveServer, Lmdeploy, Sglang, Tei, Tgi, Vllm};
    let fetches =
        [Vllm, Sglang, Tgi, Tei, Lmdeploy, KserveServer].iter().any(|kind| container.is(*kind));
    let pinned = container.flag(&["--revision", "--model-revision", "--model_revision"]).is_some()
        || container.env("REVISION").is_some();
    let set = |name: &str| container.env(name).is_some_and(|env| !env.value.is("0"));
    let offline = set("HF_HUB_OFFLINE") || set("TRANSFORMERS_OFFLINE");
    let dummy = container
        .flag(&["--load-format"])
        .and_then(|flag| flag.value)
        .is_some_and(|format| matches!(&*format, "dummy" | "runai_streamer"));
    fetches && weights.is_hub_id() && !pinned && !offline && !dummy
}
