//! How much of a card's memory a server takes.

use crate::model::{Container, FrameworkKind};
use crate::yaml::{Node, Span};

/// A fraction of the whole card, and where it is set.
pub(super) struct Grab<'b> {
    pub(super) fraction: f64,
    pub(super) node: Node<'b>,
    pub(super) span: Span,
    /// In words: the flag, or that it is the default.
    pub(super) said: String,
}

/// What a container takes of each card, by flag or by default; `None` if that is not known.
///
/// Defaults: vLLM 0.9 (docs.vllm.ai, engine arguments), SGLang about 0.88 (docs.sglang.ai, server
/// arguments), TGI 1.0 (launcher arguments), JAX 0.75 (docs.jax.dev, GPU memory allocation).
pub(super) fn of<'b>(container: &Container<'b>) -> Option<Grab<'b>> {
    let framework = container.framework?;
    let (flag, default) = match framework.kind {
        FrameworkKind::Vllm => ("--gpu-memory-utilization", 0.9),
        FrameworkKind::Sglang => ("--mem-fraction-static", 0.88),
        FrameworkKind::Tgi => ("--cuda-memory-fraction", 1.0),
        FrameworkKind::Jax => return of_jax(container),
        _ => return None,
    };
    if let Some(found) = container.flag(&[flag]) {
        let fraction = found.number()?;
        let said = format!("`{flag} {fraction}`");
        return Some(Grab { fraction, node: found.node, span: found.place(), said });
    }
    // A file of settings, or flags in a variable, may say something else.
    if container.flag(&["--config"]).is_some()
        || container.words.iter().any(|w| w.text.contains('$'))
    {
        return None;
    }
    let said = format!("{}'s default of {default}", framework.name());
    Some(Grab { fraction: default, node: framework.seen, span: framework.seen.place(), said })
}

fn of_jax<'b>(container: &Container<'b>) -> Option<Grab<'b>> {
    if container.env_value("XLA_PYTHON_CLIENT_PREALLOCATE").is_some_and(|value| value == "false") {
        return None;
    }
    let env = container.env("XLA_PYTHON_CLIENT_MEM_FRACTION")?;
    let fraction = env.value.str().trim_end_matches('%').parse::<f64>().ok()?;
    let said = format!("`XLA_PYTHON_CLIENT_MEM_FRACTION={fraction}`");
    Some(Grab { fraction, node: env.value, span: env.value.place(), said })
}
