//! `torch.distributed.checkpoint`: each process writes `__RANK_N.distcp`, then the first one writes
//! `.metadata`, by renaming it.

use super::{Missing, file_name, folder_of};
use crate::tree::Tree;

pub(super) fn check(tree: &Tree) -> Option<Result<(), Missing>> {
    let shards = || tree.files.iter().filter(|(path, _)| path.ends_with(".distcp"));
    let (first, _) = shards().next()?;
    for (path, stat) in shards() {
        let metadata = format!("{}.metadata", folder_of(path));
        match tree.files.get(&metadata) {
            Some(file) if file.bytes > 0 => {}
            Some(_) => return Some(Err(format!("`{metadata}` is empty"))),
            // The first process writes it, perhaps on another machine's disk.
            None if !file_name(path).starts_with("__0_") => {}
            None => return Some(Err(format!("`{metadata}`, which is written last, is not there"))),
        }
        if stat.bytes == 0 {
            return Some(Err(format!("`{path}` is empty")));
        }
    }
    // Without the metadata, nothing says that the shards are whole.
    tree.files.contains_key(&format!("{}.metadata", folder_of(first))).then_some(Ok(()))
}
