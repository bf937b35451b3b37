//! Copies of models, so that a revision keeps serving what it was made of.
//!
//! People overwrite model files. Without a copy, a replica of the old revision that restarts in the
//! middle of the rollout would load the new model, and a rollback would have nothing to go back to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::history::Kept;
use crate::state_dir::StateDir;
use crate::target::{files, fingerprint};

/// A larger model is used where it lies: a gigabyte takes about a second to copy, where the file
/// system cannot share it.
const LARGEST: u64 = 1 << 30;
/// What is younger may belong to a revision that is just being made.
const YOUNG: Duration = Duration::from_secs(3600);

/// A copy of a model that has that fingerprint, made unless it is there. `None`: it is too large, or
/// is no plain tree of files. Blocks.
pub(super) fn copy_of(model: &Path, marked: &str, folder: &Path) -> io::Result<Option<PathBuf>> {
    let (Some(name), Some(parent)) = (model.file_name(), model.parent()) else { return Ok(None) };
    let mut digest = Sha256::new();
    digest.update(model.as_os_str().as_encoded_bytes());
    digest.update([0]);
    digest.update(marked);
    let key: String = digest.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    let copy = folder.join(&key);
    if copy.join(name).exists() {
        return Ok(Some(copy.join(name)));
    }
    let files = files(model)?;
    let mut bytes: u64 = 0;
    for file in &files {
        let metadata = fs::metadata(file)?;
        bytes = bytes.saturating_add(metadata.len());
        if !metadata.is_file() || bytes > LARGEST {
            return Ok(None);
        }
    }
    let staged = folder.join(format!(".{key}.{}", std::process::id()));
    let result = fill(&staged, parent, &files).and_then(|()| {
        if fingerprint(model)? != marked {
            return Err(io::Error::other("it changes while it is read"));
        }
        fs::rename(&staged, &copy)
    });
    if let Err(error) = result {
        let _ = fs::remove_dir_all(&staged);
        // Another preparation of the same model may have been faster.
        if !copy.join(name).exists() {
            return Err(error);
        }
    }
    Ok(Some(copy.join(name)))
}

fn fill(staged: &Path, parent: &Path, files: &[PathBuf]) -> io::Result<()> {
    fs::create_dir_all(staged)?;
    for file in files {
        let relative = file.strip_prefix(parent).map_err(io::Error::other)?;
        let to = staged.join(relative);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(file, &to)?;
    }
    Ok(())
}

/// Removes copies and logs that no revision of the history needs. Blocks.
pub(super) fn prune(state: &StateDir, kept: &Kept) {
    let is_old = |path: &Path| {
        let changed = path.metadata().and_then(|metadata| metadata.modified());
        let age = changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
        age.is_some_and(|age| age > YOUNG)
    };
    for copy in entries(&state.models()) {
        if is_old(&copy) && !kept.models.iter().any(|model| model.starts_with(&copy)) {
            let _ = fs::remove_dir_all(&copy);
        }
    }
    for log in entries(&state.logs_root()).iter().flat_map(|folder| entries(folder)) {
        if is_old(&log) && !revision_of(&log).is_some_and(|name| kept.revisions.contains(name)) {
            let _ = fs::remove_file(&log);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder);
    listing.map(|listing| listing.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// The revision of a log such as `iris-7c9f0e12ab-0.log.2`.
fn revision_of(log: &Path) -> Option<&str> {
    let (replica, _) = log.file_name()?.to_str()?.split_once(".log")?;
    Some(replica.rsplit_once('-')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_what_it_was() {
        let root = tempfile::tempdir().unwrap();
        let (model, copies) = (root.path().join("iris/model.onnx"), root.path().join("copies"));
        fs::create_dir(root.path().join("iris")).unwrap();
        fs::write(&model, "one").unwrap();
        fs::write(root.path().join("iris/model.onnx.data"), "weights").unwrap();
        let copy = |model: &Path| {
            let marked = fingerprint(model).unwrap();
            copy_of(model, &marked, &copies).unwrap().unwrap()
        };
        let first = copy(&model);
        assert_eq!(copy(&model), first);
        assert!(first.with_file_name("model.onnx.data").exists());
        fs::write(&model, "two").unwrap();
        let second = copy(&model);
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&first), read(&second)), ("one".to_owned(), "two".to_owned()));

        let folder = copy(&root.path().join("iris"));
        assert_eq!(read(&folder.join("model.onnx")), "two");
        assert_eq!(folder.file_name().unwrap(), "iris");
        let stale = copy_of(&model, "stat:another", &copies);
        assert!(stale.unwrap_err().to_string().contains("changes while"));
    }

    #[test]
    fn logs_tell_their_revision() {
        let of = |name: &str| revision_of(Path::new(name)).map(str::to_owned);
        assert_eq!(of("a/my-iris-7c9f-0.log"), Some("my-iris-7c9f".to_owned()));
        assert_eq!(of("my-iris-7c9f-12.log.3"), Some("my-iris-7c9f".to_owned()));
        assert_eq!(of("other"), None);
    }
}
