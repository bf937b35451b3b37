//! Whether files have changed, without reading them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Below this depth nothing belongs to a model; also ends cycles of links.
const MAX_DEPTH: usize = 4;
/// Files that are looked at; a model has a few.
const MAX_FILES: usize = 4096;

/// Size and time of change of a set of files. Equal when nothing has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

impl Fingerprint {
    /// Of a file, or of all files below a folder.
    pub(crate) fn of(path: &Path) -> Self {
        let mut files = Self::default();
        files.add(path, MAX_DEPTH);
        files
    }

    /// Of the files directly in a folder.
    pub(super) fn of_files_in(folder: &Path) -> Self {
        let mut files = Self::default();
        for path in children(folder) {
            if path.is_file() {
                files.add(&path, 0);
            }
        }
        files
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn add(&mut self, path: &Path, depth: usize) {
        if self.0.len() >= MAX_FILES {
            return;
        }
        // Follows links, which an operator may use to switch between versions.
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.is_dir() {
            if depth > 0 {
                children(path).iter().for_each(|child| self.add(child, depth - 1));
            }
        } else {
            self.0.insert(path.to_owned(), (metadata.len(), metadata.modified().ok()));
        }
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
