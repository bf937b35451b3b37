//! Orbax: written under a name with `.orbax-checkpoint-tmp` and renamed when it is whole; on stores
//! that cannot rename, `commit_success.txt` is written last (which `marker` sees).

use super::{Missing, file_name};
use crate::tree::Tree;

/// Files that Orbax writes at the top of a checkpoint or of one of its items
/// (`orbax/checkpoint/_src/metadata`, `_src/serialization`).
const OURS: [&str; 4] = ["_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt", "_sharding"];

pub(super) fn check(tree: &Tree) -> Option<Result<(), Missing>> {
    // The name is final: those before it are temporary, and were seen to be.
    tree.files.keys().any(|path| OURS.contains(&file_name(path))).then_some(Ok(()))
}
