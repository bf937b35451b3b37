//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::Path;

use trainyard_storage::StorageError;

use crate::restore::Skipped;

/// Why a checkpoint was not saved, found or restored.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed; the checkpoint is still where it was.
    #[error("cannot {action}")]
    Store { action: String, source: StorageError },
    /// A file of this machine could not be read or written.
    #[error("cannot {action} `{path}`")]
    Files { action: &'static str, path: String, source: io::Error },
    /// The program wrote to the checkpoint, or removed it, while it was being read. What was
    /// uploaded of it is used by the next try.
    #[error("`{name}` changed while it was uploaded")]
    Changed { name: String },
    /// Several workers save parts, and nothing says which of their checkpoints belong together.
    #[error(
        "the checkpoint `{name}` has no step in its name, by which the parts of {of} workers would \
         be put together; write each checkpoint to a folder such as `step-100`"
    )]
    Unnumbered { name: String, of: u32 },
    #[error("there is no checkpoint `{name}` in `{uri}`{}", one_of(known))]
    NotFound { uri: String, name: String, known: Vec<String> },
    /// What the store holds of a checkpoint is not what was saved.
    #[error("the checkpoint `{name}` cannot be used: {reason}")]
    Corrupt { name: String, reason: String },
    /// There are checkpoints, and none can be restored.
    #[error("none of the checkpoints in `{uri}` can be used: {}", listed(skipped))]
    NoneGood { uri: String, skipped: Vec<Skipped> },
    /// Every worker has a file of this name, and this process is none of those workers.
    #[error(
        "each of the {of} parts of `{name}` has its own `{path}`; say which part to restore \
         (0 to {})",
        of.saturating_sub(1)
    )]
    WhichPart { name: String, path: String, of: u32 },
    /// Another process holds the store for so long that something must be wrong.
    #[error("another process has been removing old checkpoints from `{uri}` for {seconds} seconds")]
    Busy { uri: String, seconds: u64 },
    #[error("it was cancelled")]
    Cancelled,
    #[error("{0}")]
    Settings(String),
}

impl CheckpointError {
    /// The error and its causes, in one line.
    pub fn in_full(&self) -> String {
        trainyard_storage::in_full(self)
    }

    /// Whether the same call may succeed later, though nobody changes anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { source, .. } => source.is_transient(),
            Self::Files { source, .. } => trainyard_storage::may_pass(source),
            Self::Changed { .. } | Self::Busy { .. } | Self::Cancelled => true,
            Self::Unnumbered { .. }
            | Self::NotFound { .. }
            | Self::Corrupt { .. }
            | Self::NoneGood { .. }
            | Self::WhichPart { .. }
            | Self::Settings(_) => false,
        }
    }
}

fn one_of(known: &[String]) -> String {
    const MOST: usize = 5;
    match known {
        [] => ", and no other".to_owned(),
        _ => {
            let names: Vec<String> = known.iter().take(MOST).map(|it| format!("`{it}`")).collect();
            let more = if known.len() > MOST { " and others" } else { "" };
            format!("; there are {}{more}", names.join(", "))
        }
    }
}

fn listed(skipped: &[Skipped]) -> String {
    let each = skipped.iter().map(|it| format!("`{}`: {}", it.name, it.reason));
    each.collect::<Vec<_>>().join("; ")
}

/// Says what the store was asked for when it failed.
pub(crate) fn store(action: impl Into<String>) -> impl FnOnce(StorageError) -> CheckpointError {
    let action = action.into();
    move |source| CheckpointError::Store { action, source }
}

/// Says what was done to which path when a call of the file system failed.
pub(crate) fn files(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.display().to_string();
    move |source| CheckpointError::Files { action, path, source }
}
