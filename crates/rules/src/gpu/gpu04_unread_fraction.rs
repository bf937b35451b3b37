use super::memory_share;
use crate::context::Context;
use crate::facts;
use crate::model::{Container, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use serde::Deserialize;
use std::sync::LazyLock;

rule! {
    /// GPU memory fraction that nothing reads
    ///
    /// ## What it does
    /// Looks for environment variables that look like a cap on GPU memory (`GPU_MEMORY_FRACTION`) and
    /// that no known framework reads, on containers with a GPU. Silent where the command line, or a
    /// ConfigMap beside it, uses the variable.
    ///
    /// ## Why it matters
    /// Nothing limits the memory: the framework takes its default share of the card, and on a shared
    /// card its neighbour runs out of memory. A name that looks right hides it.
    ///
    /// ## How to fix it
    /// Use the knob of the framework that runs: `--gpu-memory-utilization` (vLLM),
    /// `--mem-fraction-static` (SGLang), `--cuda-memory-fraction` (TGI),
    /// `XLA_PYTHON_CLIENT_MEM_FRACTION` (JAX), `TF_FORCE_GPU_ALLOW_GROWTH` (TensorFlow),
    /// `torch.cuda.set_per_process_memory_fraction` (PyTorch, in the program).
    GPU04, Warning,
    evidence: "Variables that frameworks read: docs.vllm.ai environment variables, docs.jax.dev GPU memory allocation, tensorflow.org GPU guide, NVIDIA MPS documentation (data/lint/memory-knobs.json)",
    check: Check::Container(check),
    examples: [
        Example::bad("a name that nobody reads", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: GPU_MEMORY_FRACTION
          value: \"0.8\"
      resources: {limits: {nvidia.com/gpu: 1}}
", &[9]),
        Example::good("a name that JAX reads", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      env:
        - name: XLA_PYTHON_CLIENT_MEM_FRACTION
          value: \"0.8\"
      resources: {limits: {nvidia.com/gpu: 1}}
"),
        Example::good("passed on as a flag", "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: main
      image: a:1
      args: [--gpu-memory-utilization, $(GPU_MEMORY_UTILIZATION)]
      env:
        - name: GPU_MEMORY_UTILIZATION
          value: \"0.8\"
      resources: {limits: {nvidia.com/gpu: 1}}
"),
    ],
}

#[derive(Deserialize)]
struct Knobs {
    /// Variables that some framework reads, beside those of `data/gpu-knobs.json`.
    read: Vec<String>,
}

static KNOBS: LazyLock<Knobs> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/memory-knobs.json")));

fn check(context: &Context<'_>, _: &Pod<'_>, container: &Container<'_>, report: &mut Report) {
    if !container.has_accelerator() {
        return;
    }
    for env in &container.env {
        if !looks_like_a_cap(env.name)
            || memory_share::is_read(env.name)
            || KNOBS.read.iter().any(|name| name == env.name)
            || !env.value.text().is_some_and(is_amount)
            || is_used(context, container, env.name)
        {
            continue;
        }
        let name = env.name;
        let runs = match container.framework {
            Some(found) => format!("{} does not read it", found.name()),
            None => "no known framework reads it".to_owned(),
        };
        report
            .at(
                env.node.get("name"),
                format!("`{name}` does not limit GPU memory: {runs}, so the process takes as much of the card as it wants"),
            )
            .fix("use the knob of the framework that runs, such as `--gpu-memory-utilization` (vLLM) or `XLA_PYTHON_CLIENT_MEM_FRACTION` (JAX), or remove the variable");
    }
}

/// Whether a name speaks of GPU memory and of a part of it.
fn looks_like_a_cap(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
    has(&["GPU", "CUDA", "VRAM"])
        && has(&["MEM", "VRAM"])
        && has(&["FRACTION", "LIMIT", "RATIO", "PERCENT", "UTILIZATION", "SHARE"])
}

/// Whether a value is a number, with a unit or not.
fn is_amount(value: &str) -> bool {
    value.trim().starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

/// Whether the command line, or a script in a ConfigMap near by, names the variable.
fn is_used(context: &Context<'_>, container: &Container<'_>, name: &str) -> bool {
    container.words.iter().any(|word| word.text.contains(name))
        || context
            .bundle
            .near("ConfigMap", container.node)
            .any(|map| map.root.get("data").entries().any(|entry| entry.value.str().contains(name)))
}
