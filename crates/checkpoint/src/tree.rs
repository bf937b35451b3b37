//! The files of one checkpoint, as they were at one look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Sharded checkpoints of thousands of processes stay far below this.
pub(crate) const MAX_FILES: usize = 100_000;
/// Deeper than any layout; ends loops of symbolic links.
const MAX_DEPTH: usize = 32;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
    /// Another one after a file was replaced by renaming.
    pub(crate) inode: u64,
}

/// Files below a folder, by relative path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) files: BTreeMap<String, FileStat>,
    /// Folders without anything in them, which some readers expect.
    pub(crate) empty_folders: BTreeSet<String>,
}

impl Tree {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, files: BTreeMap::new(), empty_folders: BTreeSet::new() }
    }

    /// Reads a folder and all below it. Symbolic links are followed: what they name is a part of
    /// the checkpoint.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::new(root.to_owned());
        tree.walk(root, "", 0)?;
        Ok(tree)
    }

    fn walk(&mut self, folder: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("its folders are more than {MAX_DEPTH} deep")));
        }
        let mut is_empty = true;
        for entry in fs::read_dir(folder)? {
            is_empty = false;
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                let name = entry.file_name();
                return Err(invalid(format!("the name {name:?} is not UTF-8")));
            };
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let metadata = match fs::metadata(entry.path()) {
                // A link to nothing, or a file that was just removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_dir() {
                self.walk(&entry.path(), &path, depth.saturating_add(1))?;
            } else if metadata.is_file() {
                self.insert(path, &metadata)?;
            }
        }
        if is_empty && !prefix.is_empty() {
            self.empty_folders.insert(prefix.to_owned());
        }
        Ok(())
    }

    pub(crate) fn insert(&mut self, path: String, metadata: &fs::Metadata) -> io::Result<()> {
        if let Err(reason) = trainyard_storage::check_path(&path) {
            return Err(invalid(format!("the name `{path}` cannot be kept: {reason}")));
        }
        self.files.insert(path, stat(metadata));
        if self.files.len() > MAX_FILES {
            return Err(invalid(format!("it has more than {MAX_FILES} files")));
        }
        Ok(())
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub(crate) fn open(&self, file: &str) -> io::Result<File> {
        File::open(self.path(file))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// When the newest of its files was written.
    pub(crate) fn modified(&self) -> SystemTime {
        self.files.values().map(|file| file.modified).max().unwrap_or(UNIX_EPOCH)
    }

    /// The newest file's time, in milliseconds since the Unix epoch.
    pub(crate) fn modified_ms(&self) -> u64 {
        let since = self.modified().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether its files are still what they were at this look.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.files.iter().all(|(path, before)| {
            fs::metadata(self.path(path)).is_ok_and(|metadata| stat(&metadata) == *before)
        })
    }
}

pub(crate) fn stat(metadata: &fs::Metadata) -> FileStat {
    FileStat {
        bytes: metadata.len(),
        modified: metadata.modified().unwrap_or(UNIX_EPOCH),
        inode: metadata.ino(),
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
