//! A file that is written when all others are, or that lists them.

use std::io::{BufRead, BufReader, Read};

use super::Missing;
use crate::tree::Tree;

/// Names in use: Hadoop and Spark, and Orbax on object stores.
const MARKERS: [&str; 4] = ["_SUCCESS", "_COMPLETE", ".complete", "commit_success.txt"];
/// The list that `sha256sum` writes.
const LIST: &str = "SHA256SUMS";
/// A line of such a list for each of the most files, with room.
const MAX_LIST_BYTES: u64 = 32 << 20;

pub(super) fn check(tree: &Tree) -> Option<Result<(), Missing>> {
    if MARKERS.iter().any(|marker| tree.files.contains_key(*marker)) {
        return Some(Ok(()));
    }
    tree.files.contains_key(LIST).then(|| listed(tree))
}

/// Whether all files of the list are there. Their hashes are for the reader to check.
fn listed(tree: &Tree) -> Result<(), Missing> {
    let file = tree.open(LIST).map_err(|error| format!("cannot read `{LIST}`: {error}"))?;
    for line in BufReader::new(file.take(MAX_LIST_BYTES)).lines() {
        let line = line.map_err(|error| format!("cannot read `{LIST}`: {error}"))?;
        // The hash, a blank, and a blank or an asterisk.
        let Some((_, name)) = line.split_once(' ') else { continue };
        let name = name.trim_start_matches([' ', '*']).trim_start_matches("./");
        if !tree.files.contains_key(name) {
            return Err(format!("`{LIST}` names `{name}`, which is not there"));
        }
    }
    Ok(())
}
