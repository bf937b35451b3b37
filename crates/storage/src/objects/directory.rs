//! Objects as files of a directory: this machine's disk, a mounted volume claim, NFS.
//!
//! A file gets its name only when its bytes are on the disk, and the name is on the disk before
//! the answer. Files on their way lie in `tmp`, which nobody reads.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;

use super::{Answer, Object, Objects};
use crate::digest::blocking;
use crate::direct::{read_past_the_cache, write_past_the_cache};
use crate::error::{StorageError, files};
use crate::part::read_part;
use crate::{key, space};

/// Where files lie until they have their names. Part of the layout: a key below it is a leftover.
const STAGING: &str = "tmp";
/// Linux's NFS client caches what is in a directory for at most `acdirmax`, 60 s unless mounted
/// otherwise (nfs(5)).
#[cfg(target_os = "linux")]
const NFS_CACHE: Duration = Duration::from_secs(60);
/// How often the folder of a file may be removed just before the file is there.
const MOST_TRIES: usize = 100;
/// Written at once, before the disk is asked to begin.
const WRITE_BYTES: usize = 4 << 20;
/// Read at once where bytes are only compared.
const READ_BYTES: usize = 1 << 20;
/// Deeper than any key.
const MAX_DEPTH: usize = 16;

#[derive(Debug)]
pub(super) struct Directory {
    root: Arc<Root>,
    uri: String,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    uri: String,
    /// Folders that were made, with their names on the disk.
    made: Mutex<BTreeSet<PathBuf>>,
    counter: AtomicU64,
}

enum Mode {
    Replace,
    Create,
}

impl Directory {
    pub(super) fn new(path: PathBuf, uri: String) -> Self {
        let (made, counter) = (Mutex::default(), AtomicU64::new(0));
        Self { root: Arc::new(Root { path, uri: uri.clone(), made, counter }), uri }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Root, &str) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        if let Err(reason) = key::check(key) {
            let (uri, key) = (self.uri.clone(), key.to_owned());
            return Err(StorageError::UnsafeKey { uri, key, reason });
        }
        let (root, key) = (Arc::clone(&self.root), key.to_owned());
        blocking(move || work(&root, &key)).await
    }
}

impl Root {
    fn write(&self, key: &str, bytes: &[u8], mode: Mode) -> Result<bool, StorageError> {
        let target = self.path.join(key);
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        // Processes of two machines may have one id.
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}-{}-{number}", moment.as_nanos(), std::process::id());
        let staged = self.path.join(STAGING).join(name);
        self.make_parent(&staged)?;
        let placed = self.fill(&staged, bytes).and_then(|()| self.place(&staged, &target, &mode));
        if !matches!((&placed, &mode), (Ok(true), Mode::Replace)) {
            // What stays is cleared away later, as after a crash.
            let _ = fs::remove_file(&staged);
        }
        if placed.as_ref().is_ok_and(|placed| *placed) {
            sync_folder(target.parent().unwrap_or(&self.path))?;
        }
        placed
    }

    /// Gives a file its name. Another process may remove the folder meanwhile, because it was empty.
    fn place(&self, staged: &Path, target: &Path, mode: &Mode) -> Result<bool, StorageError> {
        for _ in 0..MOST_TRIES {
            self.make_parent(target)?;
            let placed = match mode {
                Mode::Replace => fs::rename(staged, target).map(|()| true),
                // A link is made only where there is no file, by one of several callers.
                Mode::Create => match fs::hard_link(staged, target) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                    linked => linked.map(|()| true),
                },
            };
            match placed {
                Err(error) if error.kind() == io::ErrorKind::NotFound && staged.exists() => {}
                placed => return placed.map_err(files("create", target)),
            }
        }
        Err(files("create", target)(io::ErrorKind::NotFound.into()))
    }

    /// Writes a file, waits until the disk has it, and reads it back from there.
    fn fill(&self, staged: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let failed = |action: &'static str| {
            move |error: io::Error| {
                if !space::is_full(&error) {
                    return files(action, staged)(error);
                }
                StorageError::NoSpace {
                    uri: self.uri.clone(),
                    needed: bytes.len() as u64,
                    available: space::available(&self.path),
                    folder: self.path.display().to_string(),
                }
            }
        };
        let mut options = OpenOptions::new();
        let open = options.read(true).write(true).create_new(true).open(staged);
        let mut file = open.map_err(failed("create"))?;
        let is_written = write_past_the_cache(&file, bytes, 0).map_err(failed("write"))?;
        if !is_written {
            for piece in bytes.chunks(WRITE_BYTES) {
                file.write_all(piece).map_err(failed("write"))?;
                // Lets the disk begin, while the next piece is copied.
                #[cfg(target_os = "linux")]
                let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            }
        }
        file.sync_data().map_err(failed("write"))?;
        // Without its pages the file is read from the disk, or from the file server.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let same = holds(&mut file, bytes).map_err(failed("read"))?;
        if !same {
            return Err(StorageError::Object {
                uri: self.uri.clone(),
                key: staged.display().to_string(),
                reason: "the disk holds other bytes than were written to it".to_owned(),
            });
        }
        Ok(())
    }

    /// Makes the folders above a file, each with its name on the disk.
    fn make_parent(&self, path: &Path) -> Result<(), StorageError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        let is_made = self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(parent);
        if is_made && parent.is_dir() {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut at = parent;
        while !at.is_dir() {
            missing.push(at);
            let Some(above) = at.parent() else { break };
            at = above;
        }
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(files("create", folder)(error));
                }
                _ => {}
            }
            if let Some(above) = folder.parent() {
                sync_folder(above)?;
            }
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(parent.to_owned());
        Ok(())
    }

    fn read(&self, key: &str, most: u64) -> Result<Bytes, StorageError> {
        let path = self.path.join(key);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::NotFound { uri: format!("{}/{key}", self.uri) });
            }
            opened => opened.map_err(files("open", &path))?,
        };
        let size = file.metadata().map_err(files("read", &path))?.len();
        if size > most {
            return Err(StorageError::Object {
                uri: self.uri.clone(),
                key: key.to_owned(),
                reason: format!("it has {size} bytes, at most {most} were expected"),
            });
        }
        if let Some(bytes) = read_past_the_cache(&file, size).map_err(files("read", &path))? {
            return Ok(bytes);
        }
        read_ahead(&file);
        read_part(&file, 0, size).map_err(files("read", &path))
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>, StorageError> {
        let mut found = Vec::new();
        self.walk(&self.path.join(folder), folder, 0, &mut found)?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn walk(
        &self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        found: &mut Vec<Object>,
    ) -> Result<(), StorageError> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(files("read", folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(files("read", folder))?;
            // Names of ours are text.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let key = format!("{prefix}/{name}");
            let metadata = match entry.metadata() {
                // It was deleted a moment ago.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(files("read", &entry.path()))?,
            };
            if metadata.is_dir() && depth < MAX_DEPTH {
                self.walk(&entry.path(), &key, depth.saturating_add(1), found)?;
            } else if metadata.is_file() {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Object { key, bytes: metadata.len(), modified });
            }
        }
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        let path = self.path.join(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(files("delete", &path)(error))
            }
            _ => {
                // Folders that are empty now, but for those at the top, which are needed again at once.
                let mut above = Path::new(key).parent();
                while let Some(folder) = above.filter(|it| it.components().count() > 1) {
                    if fs::remove_dir(self.path.join(folder)).is_err() {
                        break;
                    }
                    above = folder.parent();
                }
                Ok(())
            }
        }
    }
}

/// Puts the names in a folder on the disk.
fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    File::open(folder).and_then(|it| it.sync_all()).map_err(files("write", folder))
}

/// Lets the disk be asked for all of a file at once, and not for 128 KiB after another.
fn read_ahead(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::WillNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Whether a file holds exactly these bytes.
fn holds(file: &mut File, bytes: &[u8]) -> io::Result<bool> {
    if file.metadata()?.len() != bytes.len() as u64 {
        return Ok(false);
    }
    if let Some(read) = read_past_the_cache(file, bytes.len() as u64)? {
        return Ok(read == bytes);
    }
    io::Seek::seek(file, io::SeekFrom::Start(0))?;
    read_ahead(file);
    let mut buffer = vec![0; READ_BYTES.min(bytes.len())];
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let read = buffer.get(..n).unwrap_or_default();
        match rest.split_at_checked(n) {
            Some((head, tail)) if n > 0 && head == read => rest = tail,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

impl Objects for Directory {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, ()> {
        self.on_disk(key, move |root, key| root.write(key, &bytes, Mode::Replace).map(|_| ()))
            .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        self.on_disk(key, move |root, key| root.write(key, &bytes, Mode::Create)).boxed()
    }

    fn holds<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        self.on_disk(key, move |root, key| {
            let path = root.path.join(key);
            match File::open(&path).and_then(|mut file| holds(&mut file, &bytes)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                held => held.map_err(files("read", &path)),
            }
        })
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str, most: u64) -> Answer<'a, Bytes> {
        self.on_disk(key, move |root, key| root.read(key, most)).boxed()
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<Object>> {
        self.on_disk(folder, |root, folder| root.list(folder)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        self.on_disk(key, |root, key| root.delete(key)).boxed()
    }

    fn visibility(&self) -> Duration {
        // The nearest folder that is there says which file system it is.
        #[cfg(target_os = "linux")]
        if let Some(folder) = self.root.path.ancestors().find(|path| path.is_dir())
            && rustix::fs::statfs(folder)
                .is_ok_and(|stats| stats.f_type == rustix::fs::NFS_SUPER_MAGIC)
        {
            return NFS_CACHE;
        }
        Duration::ZERO
    }

    fn uri(&self) -> &str {
        &self.uri
    }
}

#[test]
fn bytes_of_all_lengths_come_back_wherever_they_lie() {
    // The disk that cargo builds on, since memory's file system may take nothing past the cache.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mut source = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    source.write_all(&content).unwrap();
    let root = Directory::new(folder.path().to_owned(), "folder".to_owned()).root;
    let block = crate::part::BLOCK as u64;
    for bytes in [0, 1, block, 1 << 20, (1 << 20) + 1, (1 << 20) + block, 3_000_000] {
        let aligned = read_part(&source, 0, bytes).unwrap();
        for (name, put) in
            [("aligned", aligned.clone()), ("odd", aligned.slice(aligned.len().min(1)..))]
        {
            assert!(root.write(name, &put, Mode::Replace).unwrap(), "{name} {bytes}");
            assert_eq!(root.read(name, u64::MAX).unwrap(), put, "{name} {bytes}");
        }
    }
}

#[test]
fn a_large_file_is_compared_to_its_last_byte() {
    use crate::direct::DIRECT_BYTES;
    let folder = tempfile::tempdir().unwrap();
    for bytes in [DIRECT_BYTES, DIRECT_BYTES + 1, 3_000_000] {
        let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        let path = folder.path().join("large");
        fs::write(&path, &content).unwrap();
        let mut file = File::open(&path).unwrap();
        assert!(holds(&mut file, &content).unwrap(), "{bytes}");
        let mut other = content.clone();
        other[bytes - 1] ^= 1;
        assert!(!holds(&mut file, &other).unwrap(), "{bytes}");
        assert!(!holds(&mut file, &content[1..]).unwrap(), "{bytes}");
        // What is read after it is read as ever.
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}
