//! Whether what lies in a folder is a whole checkpoint.
//!
//! A layout is one file and one line in [`RECOGNISERS`]. Each looks at what its writer does last, or
//! at what its format says of its own length, and never reads more than some MiB.

mod hugging_face;
mod marker;
mod orbax;
pub(crate) mod safetensors;
pub(crate) mod tensorflow;
mod torch_distributed;
pub(crate) mod torch_zip;

use serde::{Deserialize, Serialize};

use crate::tree::Tree;

/// How a checkpoint is laid out, and by that who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// With a file that says that everything else was written.
    Marker,
    Orbax,
    /// `torch.distributed.checkpoint`.
    TorchDistributed,
    /// A checkpoint of Hugging Face's Trainer.
    HuggingFace,
    TensorFlow,
    Safetensors,
    /// Files of `torch.save`.
    Torch,
    /// Not known; it was complete when nothing of it changed any more.
    Other,
}

impl Layout {
    /// Whether its writer says by its last act that it is done.
    pub(crate) fn has_commit(self) -> bool {
        matches!(self, Self::Marker | Self::Orbax | Self::TorchDistributed | Self::HuggingFace)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Marker => "marker",
            Self::Orbax => "orbax",
            Self::TorchDistributed => "torch-distributed",
            Self::HuggingFace => "hugging-face",
            Self::TensorFlow => "tensorflow",
            Self::Safetensors => "safetensors",
            Self::Torch => "torch",
            Self::Other => "other",
        }
    }
}

/// What one look at a tree says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Complete(Layout),
    /// A part is missing, or is shorter than it says that it is.
    Incomplete(String),
    /// Nothing here says when it is complete.
    Unknown,
}

/// Why a part of it is not whole yet.
type Missing = String;

/// `None`: it is not of this layout.
type Recogniser = fn(&Tree) -> Option<Result<(), Missing>>;

/// Layouts that say more come first: the first that fits names the layout, and none of them may
/// find something missing.
const RECOGNISERS: [(Layout, Recogniser); 7] = [
    (Layout::Marker, marker::check),
    (Layout::Orbax, orbax::check),
    (Layout::TorchDistributed, torch_distributed::check),
    (Layout::HuggingFace, hugging_face::check),
    (Layout::TensorFlow, tensorflow::check),
    (Layout::Safetensors, safetensors::check),
    (Layout::Torch, torch_zip::check),
];

/// Looks at a tree as it is now.
pub(crate) fn judge(tree: &Tree) -> Verdict {
    if tree.files.is_empty() {
        return Verdict::Incomplete("it holds no file".to_owned());
    }
    if let Some(path) = tree.files.keys().find(|path| path.split('/').any(is_temporary)) {
        return Verdict::Incomplete(format!("`{path}` is being written"));
    }
    let mut layout = None;
    for (name, recognise) in RECOGNISERS {
        match recognise(tree) {
            None => {}
            Some(Ok(())) => layout = layout.or(Some(name)),
            Some(Err(missing)) => return Verdict::Incomplete(missing),
        }
    }
    layout.map_or(Verdict::Unknown, Verdict::Complete)
}

/// Names that writers give to what they will rename or remove.
pub(crate) fn is_temporary(name: &str) -> bool {
    const ENDS: [&str; 8] =
        [".tmp", ".temp", ".part", ".partial", ".incomplete", "_temp", "~", ".swp"];
    const BEGINS: [&str; 4] = ["tmp-", "tmp_", ".tmp", ".trainyard-"];
    // Orbax's folders, and TensorFlow's shards before they are merged.
    const WITHIN: [&str; 3] = [".orbax-checkpoint-tmp", ".tempstate", ".tmp."];
    ENDS.iter().any(|end| name.ends_with(end))
        || BEGINS.iter().any(|begin| name.starts_with(begin))
        || WITHIN.iter().any(|within| name.contains(within))
}

/// The last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The folder of a path, with its slash; empty at the top.
fn folder_of(path: &str) -> &str {
    path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
