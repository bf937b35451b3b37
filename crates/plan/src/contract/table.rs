//! The knobs by which programs are told how much of a GPU they may take: `data/gpu-knobs.json`, the
//! one place that has them. The linter reads it too, for what they are where nobody sets them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::template::Template;

/// Software with knobs of its own, by the name that `data/lint/frameworks.json` has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Framework {
    Vllm,
    Sglang,
    Tgi,
    TensorflowServing,
    Tensorflow,
    Jax,
    Pytorch,
    Triton,
    /// Our own model server.
    Trainyard,
    /// NVIDIA's Multi-Process Service, whatever runs on top of it.
    Mps,
}

/// What one kind of software reads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Known {
    kind: Framework,
    pub(super) knobs: Vec<Knob>,
    /// What only a person can set, in words with values.
    #[serde(default)]
    pub(super) elsewhere: Vec<Template>,
}

/// One flag or variable.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Knob {
    /// Names of the flag; the first is written.
    #[serde(default)]
    pub(super) flags: Vec<String>,
    /// Names of the variable; the first is written where there is no flag.
    #[serde(default)]
    pub(super) env: Vec<String>,
    pub(super) value: Template,
    /// The flag and its value are one argument.
    #[serde(default)]
    pub(super) joined: bool,
    /// The value is a list, of which one entry is ours.
    #[serde(default)]
    pub(super) list: bool,
    /// It is left out where its value is not known; others are needed then.
    #[serde(default)]
    pub(super) optional: bool,
    /// Never written, since some releases refuse it.
    #[serde(default)]
    pub(super) checked_only: bool,
}

static TABLE: LazyLock<BTreeMap<Framework, Known>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        frameworks: Vec<Known>,
    }
    let text = include_str!("../../../../data/gpu-knobs.json");
    let file: File = serde_json::from_str(text).expect("a test reads the table");
    file.frameworks.into_iter().map(|known| (known.kind, known)).collect()
});

impl Framework {
    /// What it reads.
    pub(super) fn known(self) -> &'static Known {
        TABLE.get(&self).expect("a test finds every framework in the table")
    }

    #[cfg(test)]
    const ALL: [Self; 10] = [
        Self::Vllm,
        Self::Sglang,
        Self::Tgi,
        Self::TensorflowServing,
        Self::Tensorflow,
        Self::Jax,
        Self::Pytorch,
        Self::Triton,
        Self::Trainyard,
        Self::Mps,
    ];
}

#[test]
fn the_table_has_every_framework() {
    for framework in Framework::ALL {
        for knob in &framework.known().knobs {
            assert!(!knob.flags.is_empty() || !knob.env.is_empty(), "{framework:?}");
        }
    }
    assert_eq!(TABLE.len(), Framework::ALL.len());
}
