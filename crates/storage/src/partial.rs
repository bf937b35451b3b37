//! A file on its way: the data, and a journal of the parts of it that are whole.
//!
//! Both lie in the entry's own folder, which only the holder of its lock writes. Their name is made
//! of everything that tells one content from another, so that parts of two never mix.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::digest::{self, blocking};
use crate::error::{StorageError, files};
use crate::remote::RemoteFile;
use crate::space;

/// The data's and the journal's places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) data: PathBuf,
    pub(crate) journal: PathBuf,
}

/// The places for one version of a file, cut into parts of one size. `expected` tells versions
/// apart that the remote gives no tag.
pub(crate) fn paths(
    folder: &Path,
    file: &RemoteFile,
    part_bytes: u64,
    expected: Option<&str>,
) -> Paths {
    let tag = file.tag.as_ref().map_or("", |tag| tag.0.as_str());
    let expected = expected.unwrap_or_default();
    let identity = format!("{}\n{:?}\n{tag}\n{expected}\n{part_bytes}", file.path, file.size);
    let name = digest::of_text(&identity);
    Paths {
        data: folder.join(format!("{name}.data")),
        journal: folder.join(format!("{name}.parts")),
    }
}

/// An open file on its way.
pub(crate) struct Partial {
    uri: String,
    paths: Paths,
    size: Option<u64>,
    data: Arc<File>,
    journal: Arc<Mutex<File>>,
    /// Where the parts begin that are whole.
    done: BTreeSet<u64>,
}

impl Partial {
    /// Opens or makes the file. With `resume`, what an earlier run finished counts.
    pub(crate) fn open(
        uri: &str,
        paths: Paths,
        size: Option<u64>,
        resume: bool,
    ) -> Result<Self, StorageError> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(!resume);
            options.open(path).map_err(files("open", path))
        };
        let data = open(&paths.data)?;
        let was_whole = data.metadata().is_ok_and(|metadata| Some(metadata.len()) == size);
        if !was_whole {
            // Without its data, a journal says nothing.
            fs::write(&paths.journal, "").map_err(files("write", &paths.journal))?;
        }
        let mut journal = open(&paths.journal)?;
        let done = read_journal(&mut journal).map_err(files("read", &paths.journal))?;
        let partial = Self {
            uri: uri.to_owned(),
            paths,
            size,
            data: Arc::new(data),
            journal: Arc::new(Mutex::new(journal)),
            done,
        };
        if let Some(size) = size {
            let needed = size.saturating_sub(space::allocated(&partial.paths.data));
            if let Err(error) = space::reserve(&partial.data, size) {
                let failed = partial.failed("reserve room for", error, needed);
                if !was_whole {
                    // Nothing is in it, so it only takes room from others.
                    let _ = fs::remove_file(&partial.paths.data);
                }
                return Err(failed);
            }
        }
        Ok(partial)
    }

    pub(crate) fn has(&self, part: u64) -> bool {
        self.done.contains(&part)
    }

    /// Writes bytes to their place.
    pub(crate) async fn write(&self, at: u64, bytes: Bytes) -> Result<(), StorageError> {
        let data = Arc::clone(&self.data);
        let length = bytes.len() as u64;
        let written = blocking(move || Ok(data.write_all_at(&bytes, at))).await?;
        written.map_err(|error| {
            let rest = self.size.map_or(length, |size| size.saturating_sub(at));
            self.failed("write", error, rest)
        })
    }

    /// Notes that a part is whole, once its bytes are on the disk.
    pub(crate) async fn finish(&self, part: u64) -> Result<(), StorageError> {
        let (data, journal) = (Arc::clone(&self.data), Arc::clone(&self.journal));
        let noted = blocking(move || {
            Ok(data.sync_data().and_then(|()| {
                let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(journal, "{part}")
            }))
        })
        .await?;
        noted.map_err(|error| self.failed("write", error, 0))
    }

    /// Cuts a file whose size was not known to what came.
    pub(crate) fn end_at(&self, size: u64) -> Result<(), StorageError> {
        self.data.set_len(size).map_err(files("write", &self.paths.data))
    }

    fn failed(&self, action: &'static str, error: io::Error, needed: u64) -> StorageError {
        if !space::is_full(&error) {
            return files(action, &self.paths.data)(error);
        }
        let folder = self.paths.data.parent().unwrap_or(Path::new("/"));
        StorageError::NoSpace {
            uri: self.uri.clone(),
            needed,
            available: space::available(folder),
            folder: folder.display().to_string(),
        }
    }
}

/// The parts that a journal names. A line that a crash cut short does not count: it is the last one
/// and has no end. The next write must not go on from it.
fn read_journal(journal: &mut File) -> io::Result<BTreeSet<u64>> {
    let text = io::read_to_string(&mut *journal).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let done = text.get(..whole).unwrap_or_default().lines().filter_map(|line| line.parse().ok());
    let done = done.collect();
    journal.set_len(whole as u64)?;
    io::Seek::seek(journal, io::SeekFrom::Start(whole as u64))?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Tag;

    fn file(tag: &str) -> RemoteFile {
        RemoteFile {
            path: "m".to_owned(),
            key: String::new(),
            size: Some(10),
            tag: Some(Tag::etag(tag)),
            ranges: true,
        }
    }

    #[tokio::test]
    async fn finished_parts_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let paths = |tag| paths(folder.path(), &file(tag), 4, None);
        let open = |tag, resume| Partial::open("u", paths(tag), Some(10), resume).unwrap();

        let partial = open("a", true);
        partial.write(4, Bytes::from_static(b"4567")).await.unwrap();
        partial.finish(4).await.unwrap();
        assert!(open("a", true).has(4) && !open("a", true).has(0));
        assert!(!open("b", true).has(4), "another version");
        assert!(!open("a", false).has(4), "starting anew");
    }

    #[tokio::test]
    async fn a_torn_journal_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path(), &file("a"), 4, None);
        drop(Partial::open("u", paths.clone(), Some(10), true).unwrap());
        fs::write(&paths.journal, "4\nnonsense\n8").unwrap();
        let partial = Partial::open("u", paths.clone(), Some(10), true).unwrap();
        assert!(partial.has(4) && !partial.has(8));
        partial.finish(0).await.unwrap();
        assert_eq!(fs::read_to_string(&paths.journal).unwrap(), "4\nnonsense\n0\n");
        fs::remove_file(&paths.data).unwrap();
        assert!(!Partial::open("u", paths, Some(10), true).unwrap().has(4), "the data is gone");
    }
}
