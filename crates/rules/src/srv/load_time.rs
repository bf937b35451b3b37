//! How long a server takes until it answers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::facts;
use crate::model::{Container, FrameworkKind, Pod};
use crate::yaml::Node;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loading {
    /// From the fastest storage in wide use.
    fast_bytes_per_second: f64,
    /// From a model hub, an object store or a network disk.
    usual_bytes_per_second: f64,
    /// Seconds before weights are read and after.
    start_seconds: BTreeMap<String, f64>,
}

static LOADING: LazyLock<Loading> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/loading.json")));

/// Seconds that a server needs at the very least, from the fastest storage.
pub(super) fn at_least(container: &Container<'_>) -> Option<f64> {
    estimate(container, LOADING.fast_bytes_per_second)
}

/// Seconds that a server usually needs where it fetches its weights.
pub(super) fn usually(container: &Container<'_>) -> Option<f64> {
    estimate(container, LOADING.usual_bytes_per_second)
}

/// `None` where the size of the weights is not known.
fn estimate(container: &Container<'_>, bytes_per_second: f64) -> Option<f64> {
    let bytes = container.weights()?.bytes()?.as_f64();
    let kind = match container.framework.map(|found| found.kind) {
        Some(FrameworkKind::Vllm) => "vllm",
        Some(FrameworkKind::Sglang) => "sglang",
        Some(FrameworkKind::Tgi) => "tgi",
        Some(FrameworkKind::TensorrtLlm) => "tensorrt-llm",
        _ => "other",
    };
    Some(LOADING.start_seconds.get(kind).copied().unwrap_or_default() + bytes / bytes_per_second)
}

/// Seconds until a probe has failed for good, counted from the container's start.
pub(super) fn budget(probe: Node<'_>) -> i64 {
    let seconds = |key: &str, default: i64| probe.get(key).int().unwrap_or(default);
    let each = seconds("periodSeconds", 10).saturating_mul(seconds("failureThreshold", 3));
    seconds("initialDelaySeconds", 0).saturating_add(each)
}

/// The container that serves the model: one whose software shows it, or the one with the
/// accelerator.
pub(super) fn is_server(pod: &Pod<'_>, container: &Container<'_>) -> bool {
    if container.init || !pod.serves() {
        return false;
    }
    match pod.server() {
        Some(server) => server.node == container.node,
        None => container.has_accelerator(),
    }
}

/// Whether a server writes its answers token by token, for as long as the text is.
pub(super) fn streams(container: &Container<'_>) -> bool {
    let generates = matches!(
        container.framework.map(|found| found.kind),
        Some(
            FrameworkKind::Vllm
                | FrameworkKind::Sglang
                | FrameworkKind::Tgi
                | FrameworkKind::TensorrtLlm
                | FrameworkKind::LlamaCpp
                | FrameworkKind::Ollama
                | FrameworkKind::Lmdeploy
                | FrameworkKind::Jetstream
        )
    );
    generates && !answers_at_once(container)
}

/// Whether a server of language models is told to embed, score or classify texts only.
fn answers_at_once(container: &Container<'_>) -> bool {
    let task = container.flag(&["--task"]).and_then(|flag| flag.value);
    let runner = container.flag(&["--runner"]).and_then(|flag| flag.value);
    task.is_some_and(|task| !matches!(&*task, "auto" | "generate" | "transcription"))
        || runner.is_some_and(|runner| runner == "pooling")
        || container.flag(&["--is-embedding"]).is_some()
        || container.flag(&["--embedding", "--embeddings"]).is_some()
}
