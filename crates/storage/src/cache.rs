//! What was fetched, by content, and which URI it was.
//!
//! ```text
//! blobs/SHA256             a file's content, read-only, whole from the moment it has its name
//! trees/SHA256/PATH        a model as its user sees it: hard links to blobs
//! remotes/KEY.json         what a URI was when last looked at (KEY: hash of URI and endpoint)
//! remotes/KEY.lock         held by whoever fetches it
//! partial/KEY/             files on their way
//! ```
//!
//! Everything gets its final name by a rename after its bytes are on the disk, so a reader needs no
//! lock and a crash leaves nothing that looks whole and is not.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::{self, blocking};
use crate::error::{StorageError, files};
use crate::fetch::{Fetched, Source};

/// How often a lock that another process holds is tried. Polled rather than waited for, so that
/// cancelling leaves no thread behind that would take it later.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// What a URI was when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Model {
    /// For people who look into the cache; without secrets.
    pub(crate) uri: String,
    pub(crate) folder: bool,
    /// Name of its folder below `trees`.
    pub(crate) tree: String,
    /// By path; exactly one where it is no folder.
    pub(crate) files: Vec<ModelFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// What the remote said to tell this content from others.
    pub(crate) tag: Option<String>,
}

impl Model {
    pub(crate) fn new(uri: &str, folder: bool, files: Vec<ModelFile>) -> Self {
        let tree =
            digest::of_folder(files.iter().map(|file| (file.path.as_str(), file.sha256.as_str())));
        Self { uri: uri.to_owned(), folder, tree, files }
    }

    /// The hash that people give: of the file, or of the folder's listing.
    pub(crate) fn sha256(&self) -> &str {
        match self.files.first() {
            Some(file) if !self.folder => &file.sha256,
            _ => &self.tree,
        }
    }

    fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// The part of the cache that belongs to one URI.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    root: PathBuf,
    key: String,
}

/// Held while an entry changes; the system takes it back when the process ends.
pub(crate) struct Lock {
    _file: Arc<File>,
}

impl Entry {
    /// The entry of what `identity` names, in the given folder or the user's.
    pub(crate) fn open(root: Option<&Path>, identity: &str) -> Result<Self, StorageError> {
        let user = || folder_from(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"));
        let root = root.map(Path::to_owned).or_else(user).ok_or(StorageError::NoCache)?;
        Ok(Self { root, key: digest::of_text(identity) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial").join(&self.key)
    }

    pub(crate) fn blob(&self, sha256: &str) -> PathBuf {
        self.root.join("blobs").join(sha256)
    }

    fn tree(&self, model: &Model) -> PathBuf {
        self.root.join("trees").join(&model.tree)
    }

    fn record(&self) -> PathBuf {
        self.root.join("remotes").join(format!("{}.json", self.key))
    }

    pub(crate) fn fetched(&self, model: &Model, source: Source) -> Fetched {
        let tree = self.tree(model);
        let path = match model.files.first() {
            Some(file) if !model.folder => tree.join(&file.path),
            _ => tree,
        };
        let fingerprint = format!("sha256:{}", model.sha256());
        Fetched { path, fingerprint, bytes: model.bytes(), source }
    }

    /// What is cached, if it is there with all files.
    pub(crate) async fn model(&self) -> Result<Option<Model>, StorageError> {
        let entry = self.clone();
        blocking(move || {
            // What cannot be read was written by another version, or is not there: fetch again.
            let Ok(text) = fs::read(entry.record()) else { return Ok(None) };
            let Ok(model) = serde_json::from_slice::<Model>(&text) else { return Ok(None) };
            let tree = entry.tree(&model);
            let is_there = |file: &ModelFile| {
                fs::metadata(tree.join(&file.path)).is_ok_and(|it| it.len() == file.bytes)
            };
            Ok(Some(model).filter(|model| model.files.iter().all(is_there)))
        })
        .await
    }

    /// Waits for the entry; calls `waiting` once when somebody else has it.
    pub(crate) async fn lock(&self, waiting: impl FnOnce()) -> Result<Lock, StorageError> {
        let entry = self.clone();
        let file = blocking(move || {
            for folder in ["blobs", "trees", "remotes"] {
                let folder = entry.root.join(folder);
                fs::create_dir_all(&folder).map_err(files("create", &folder))?;
            }
            let path = entry.root.join("remotes").join(format!("{}.lock", entry.key));
            let file = File::options().write(true).create(true).truncate(false).open(&path);
            file.map_err(files("open", &path))
        })
        .await?;
        let file = Arc::new(file);
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(fs::TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(fs::TryLockError::Error(error)) => {
                    return Err(files("lock", &self.record())(error));
                }
            }
        }
    }

    /// Makes room for files on their way; removes those that are not among `wanted`, which are parts
    /// of a content that is no more.
    pub(crate) fn remove_stale(&self, wanted: &[PathBuf]) -> Result<(), StorageError> {
        let folder = self.partial();
        fs::create_dir_all(&folder).map_err(files("create", &folder))?;
        for entry in fs::read_dir(&folder).map_err(files("read", &folder))? {
            let path = entry.map_err(files("read", &folder))?.path();
            if !wanted.contains(&path) {
                fs::remove_file(&path).map_err(files("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Gives a whole file its name by content.
    pub(crate) fn keep_blob(&self, data: &Path, sha256: &str) -> Result<(), StorageError> {
        let blob = self.blob(sha256);
        let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
        if length(&blob).is_some() && length(&blob) == length(data) {
            return fs::remove_file(data).map_err(files("remove", data));
        }
        sync(data)?;
        fs::set_permissions(data, Permissions::from_mode(0o444)).map_err(files("protect", data))?;
        fs::rename(data, &blob).map_err(files("move", data))?;
        sync(&self.root.join("blobs"))
    }

    /// Builds the model's tree from blobs, and then says that the URI is this model.
    pub(crate) fn publish(&self, model: &Model) -> Result<(), StorageError> {
        let tree = self.tree(model);
        if !tree.is_dir() {
            // The lock is ours, so one that is there was left by a process that was killed.
            let staging = self.root.join("trees").join(format!(".staging-{}", self.key));
            if staging.exists() {
                fs::remove_dir_all(&staging).map_err(files("remove", &staging))?;
            }
            self.build(model, &staging)?;
            match fs::rename(&staging, &tree) {
                // Another URI's fetch has made the same tree meanwhile.
                Err(_) if tree.is_dir() => {
                    fs::remove_dir_all(&staging).map_err(files("remove", &staging))?;
                }
                result => result.map_err(files("move", &staging))?,
            }
            sync(&self.root.join("trees"))?;
        } else {
            // It is there, and perhaps somebody removed files of it.
            self.build(model, &tree)?;
        }
        let text = serde_json::to_vec_pretty(model).map_err(io::Error::other);
        let record = self.record();
        let text = text.map_err(files("write", &record))?;
        write_whole(&record, &text)?;
        // Journals of files that are blobs now. The next fetch removes what this one cannot.
        let _ = fs::remove_dir_all(self.partial());
        Ok(())
    }

    /// Links every file that is missing.
    fn build(&self, model: &Model, tree: &Path) -> Result<(), StorageError> {
        fs::create_dir_all(tree).map_err(files("create", tree))?;
        for file in &model.files {
            let path = tree.join(&file.path);
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == file.bytes) {
                continue;
            }
            let parent = path.parent().unwrap_or(tree);
            fs::create_dir_all(parent).map_err(files("create", parent))?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(files("replace", &path)(error));
                }
                _ => {}
            }
            let blob = self.blob(&file.sha256);
            // Some file systems have no hard links.
            fs::hard_link(&blob, &path)
                .or_else(|_| fs::copy(&blob, &path).map(drop))
                .map_err(files("create", &path))?;
            sync(&path)?;
            sync(parent)?;
        }
        sync(tree)
    }
}

/// Replaces a file in one step.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let staging = path.with_extension("new");
    let mut file = File::create(&staging).map_err(files("write", &staging))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(files("write", &staging))?;
    fs::rename(&staging, path).map_err(files("write", path))?;
    path.parent().map_or(Ok(()), sync)
}

/// Waits until a file's content, or a folder's names, are on the disk.
fn sync(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(files("write", path))
}

/// `$XDG_CACHE_HOME/trainyard/models`, else `~/.cache/trainyard/models`.
fn folder_from(cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // The specification of XDG_CACHE_HOME says to ignore relative paths.
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base =
        cache_home.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(base.join("trainyard").join("models"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(entry: &Entry, folder: bool, content: &[(&str, &str)]) -> Model {
        let files = content.iter().map(|(path, text)| {
            let sha256 = digest::of_text(text);
            let data = entry.root.join("data");
            fs::write(&data, text).unwrap();
            entry.keep_blob(&data, &sha256).unwrap();
            let (path, bytes) = ((*path).to_owned(), text.len() as u64);
            ModelFile { path, bytes, sha256, tag: None }
        });
        Model::new("s3://b/k", folder, files.collect())
    }

    #[tokio::test]
    async fn a_model_is_seen_once_it_is_published() {
        let root = tempfile::tempdir().unwrap();
        let entry = Entry::open(Some(root.path()), "one").unwrap();
        let lock = entry.lock(|| {}).await.unwrap();
        let model = model(&entry, true, &[("m/1/model.onnx", "abc"), ("m/config.pbtxt", "")]);
        assert_eq!(entry.model().await.unwrap(), None);
        entry.publish(&model).unwrap();
        assert_eq!(entry.model().await.unwrap(), Some(model.clone()));
        drop(lock);

        let fetched = entry.fetched(&model, Source::Cache);
        let file = fetched.path.join("m/1/model.onnx");
        assert_eq!(fs::read_to_string(&file).unwrap(), "abc");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(fetched.bytes, 3);

        fs::remove_file(&file).unwrap();
        assert_eq!(entry.model().await.unwrap(), None, "a file is missing");
        let _lock = entry.lock(|| {}).await.unwrap();
        entry.publish(&model).unwrap();
        assert_eq!(entry.model().await.unwrap(), Some(model), "and was linked again");
    }

    #[tokio::test]
    async fn a_lock_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let entry = Entry::open(Some(root.path()), "one").unwrap();
        let other = Entry::open(Some(root.path()), "two").unwrap();
        let first = entry.lock(|| panic!("nobody has it")).await.unwrap();
        drop(other.lock(|| panic!("another entry")).await.unwrap());
        let (tx, rx) = tokio::sync::oneshot::channel();
        let second = entry.lock(|| tx.send(()).unwrap());
        let release = async {
            rx.await.unwrap();
            drop(first);
        };
        let (second, ()) = tokio::join!(second, release);
        second.unwrap();
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let check = |cache: Option<&str>, home: Option<&str>, expected: Option<&str>| {
            let folder = folder_from(cache.map(Into::into), home.map(Into::into));
            assert_eq!(folder, expected.map(PathBuf::from), "{cache:?} {home:?}");
        };
        check(Some("/c"), Some("/h"), Some("/c/trainyard/models"));
        check(Some("relative"), Some("/h"), Some("/h/.cache/trainyard/models"));
        check(None, None, None);
    }
}
