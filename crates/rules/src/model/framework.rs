//! The ML software that a container runs, from `data/lint/frameworks.json`.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::yaml::Node;

use super::container::Container;
use super::image::glob;
use super::pod::Purpose;

/// Software that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameworkKind {
    Vllm,
    Sglang,
    Tgi,
    Tei,
    Triton,
    TensorrtLlm,
    TensorflowServing,
    Torchserve,
    Ollama,
    LlamaCpp,
    Lmdeploy,
    Nim,
    Mlserver,
    KserveServer,
    BentoMl,
    Jetstream,
    Infinity,
    Ray,
    Jupyter,
    Mlflow,
    /// Training with PyTorch, whatever stands on top of it.
    Pytorch,
    Tensorflow,
    Jax,
    Mpi,
}

/// How sure a guess is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sureness {
    /// It fits what is seen, and other things would too.
    Likely,
    /// Nothing else is known that looks like this.
    Sure,
}

/// What was found, and where.
#[derive(Debug, Clone, Copy)]
pub struct Framework<'b> {
    pub kind: FrameworkKind,
    pub sureness: Sureness,
    /// The image, argument or variable that shows it.
    pub seen: Node<'b>,
    known: &'static Known,
}

impl Framework<'_> {
    /// As its makers write it: `vLLM`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        &self.known.name
    }

    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.known.purpose
    }

    /// The port that it listens on unless told otherwise.
    #[must_use]
    pub fn port(&self) -> Option<i64> {
        self.known.port
    }

    /// Flags that set the port.
    #[must_use]
    pub fn port_flags(&self) -> &'static [String] {
        &self.known.port_flags
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Known {
    kind: FrameworkKind,
    name: String,
    purpose: Purpose,
    /// Globs over repositories without registry.
    #[serde(default)]
    images: Vec<String>,
    /// Globs over repositories that fit the above and are something else.
    #[serde(default)]
    not_images: Vec<String>,
    /// Words of command lines that follow one another.
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    port: Option<i64>,
    #[serde(default)]
    port_flags: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Table {
    frameworks: Vec<Known>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../data/lint/frameworks.json"))
        .expect("a test reads the table")
});

/// The software of a container: what its command runs, or else what its image is.
pub(super) fn detect<'b>(container: &Container<'b>) -> Option<Framework<'b>> {
    for known in &TABLE.frameworks {
        if let Some(word) =
            known.commands.iter().find_map(|command| container.find_command(command))
        {
            return Some(Framework {
                kind: known.kind,
                sureness: Sureness::Sure,
                seen: word.node,
                known,
            });
        }
    }
    let repository = container.image?.repository;
    if only_waits(container) {
        return None;
    }
    let is = |known: &&Known| {
        known.images.iter().any(|pattern| glob(pattern, repository))
            && !known.not_images.iter().any(|pattern| glob(pattern, repository))
    };
    let known = TABLE.frameworks.iter().find(is)?;
    // An image made for one server but told to run something else may be anything.
    let runs_other = container.words.first().is_some_and(|word| {
        let first = super::args::program(&word.text);
        super::args::is_shell(&word.text) || matches!(first, "python" | "python3")
    });
    let sureness = if runs_other { Sureness::Likely } else { Sureness::Sure };
    Some(Framework { kind: known.kind, sureness, seen: container.image_node, known })
}

/// Whether a command line does nothing but wait: someone will work in the container by hand.
fn only_waits(container: &Container<'_>) -> bool {
    const WAIT: [&str; 3] = ["sleep", "tail", "pause"];
    const AROUND: [&str; 10] =
        ["while", "true", "do", "done", ":", "trap", "exec", "wait", "infinity", "null"];
    let is_wait = |word: &str| WAIT.contains(&super::args::program(word));
    let is_around = |word: &str| {
        super::args::is_shell(word)
            || AROUND.contains(&super::args::program(word))
            || word.starts_with('-')
            || word.starts_with(|c: char| c.is_ascii_digit())
    };
    container.words.iter().any(|word| is_wait(&word.text))
        && container.words.iter().all(|word| is_wait(&word.text) || is_around(&word.text))
}

#[test]
fn the_table_can_be_read() {
    assert!(TABLE.frameworks.len() > 20);
}
