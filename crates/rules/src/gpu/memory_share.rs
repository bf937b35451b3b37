//! How much of a card's memory a server takes.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::facts;
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

/// What `data/gpu-knobs.json` says of a framework's knobs: the same table that services are compiled
/// by.
#[derive(Debug, Deserialize)]
struct Known {
    kind: String,
    knobs: Vec<Knob>,
}

#[derive(Debug, Deserialize)]
struct Knob {
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    /// The fraction of the card that is taken where nobody sets it.
    default: Option<f64>,
}

static TABLE: LazyLock<Vec<Known>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        frameworks: Vec<Known>,
    }
    let file: File = facts::parse(include_str!("../../../../data/gpu-knobs.json"));
    file.frameworks
});

/// Whether some framework reads a variable of that name.
pub(super) fn is_read(variable: &str) -> bool {
    let mut all = TABLE.iter().flat_map(|known| &known.knobs).flat_map(|knob| &knob.env);
    all.any(|name| name == variable)
}

/// What a container takes of each card, by flag or by default; `None` if that is not known.
pub(super) fn of<'b>(container: &Container<'b>) -> Option<Grab<'b>> {
    let framework = container.framework?;
    if framework.kind == FrameworkKind::Jax {
        return of_jax(container);
    }
    let is_kind = |known: &&Known| {
        let kind = serde_json::Value::String(known.kind.clone());
        serde_json::from_value::<FrameworkKind>(kind).is_ok_and(|kind| kind == framework.kind)
    };
    let knobs = TABLE.iter().find(is_kind)?.knobs.iter();
    let (knob, default) =
        knobs.filter(|knob| !knob.flags.is_empty()).find_map(|knob| Some((knob, knob.default?)))?;
    let flags: Vec<&str> = knob.flags.iter().map(String::as_str).collect();
    if let Some(found) = container.flag(&flags) {
        let fraction = found.number()?;
        let said = format!("`{} {fraction}`", flags.first()?);
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
