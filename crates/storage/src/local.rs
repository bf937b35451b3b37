//! Models that lie on this machine already.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::digest::{self, blocking};
use crate::error::{StorageError, files};
use crate::fetch::{Fetched, Progress, Source, Stage, check_digest};
use crate::meter::Meter;

/// A folder of more files is no model, but perhaps somebody's home.
const MAX_FILES: usize = 100_000;
/// Deeper than any layout; ends loops of symbolic links.
const MAX_DEPTH: usize = 32;

struct LocalFile {
    /// Relative to the folder.
    name: String,
    path: PathBuf,
    bytes: u64,
    /// Size and time of the last change, as text.
    stat: String,
}

/// Looks at a local model; hashes it only when a hash is expected.
pub(crate) async fn fetch(
    path: &Path,
    uri: &str,
    expected: Option<&str>,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Fetched, StorageError> {
    let path = std::path::absolute(path).map_err(files("find", path))?;
    let (root, owned_uri) = (path.clone(), uri.to_owned());
    let (is_folder, found) = blocking(move || look(&root, &owned_uri)).await?;
    let bytes = found.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    let fingerprint = match expected {
        None => {
            let lines: String =
                found.iter().map(|file| format!("{} {}\n", file.stat, file.name)).collect();
            format!("stat:{}", digest::of_text(&lines))
        }
        Some(_) => {
            let meter = Meter::new(Stage::Verifying, Some(bytes), progress);
            let mut hashes = Vec::with_capacity(found.len());
            for file in &found {
                hashes.push(digest::of_file(&file.path, &meter).await?);
            }
            let actual = match hashes.first() {
                Some(hash) if !is_folder => hash.clone(),
                _ => {
                    let names = found.iter().map(|file| file.name.as_str());
                    digest::of_folder(names.zip(hashes.iter().map(String::as_str)))
                }
            };
            check_digest(uri, expected, &actual)?;
            format!("sha256:{actual}")
        }
    };
    Ok(Fetched { path, fingerprint, bytes, source: Source::Local })
}

/// Files at a local path, and the bytes of all.
pub(crate) async fn count(path: &Path, uri: &str) -> Result<(usize, u64), StorageError> {
    let path = std::path::absolute(path).map_err(files("find", path))?;
    let uri = uri.to_owned();
    let (_, found) = blocking(move || look(&path, &uri)).await?;
    Ok((found.len(), found.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))))
}

fn look(root: &Path, uri: &str) -> Result<(bool, Vec<LocalFile>), StorageError> {
    let metadata = match fs::metadata(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StorageError::NotFound { uri: uri.to_owned() });
        }
        result => result.map_err(files("read", root))?,
    };
    let mut found = Vec::new();
    if metadata.is_dir() {
        walk(root, "", 0, &mut found, uri)?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
    } else {
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push(local_file(name, root, &metadata));
    }
    Ok((metadata.is_dir(), found))
}

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut Vec<LocalFile>,
    uri: &str,
) -> Result<(), StorageError> {
    let too_much = |reason: String| StorageError::Uri { uri: uri.to_owned(), reason };
    if depth > MAX_DEPTH {
        return Err(too_much(format!("its folders are more than {MAX_DEPTH} deep")));
    }
    for entry in fs::read_dir(folder).map_err(files("read", folder))? {
        let path = entry.map_err(files("read", folder))?.path();
        let last = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if prefix.is_empty() { last.into_owned() } else { format!("{prefix}/{last}") };
        // Links are followed, because mounted volumes are made of them.
        let metadata = match fs::metadata(&path) {
            // A link to nothing, or a file that was just removed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            result => result.map_err(files("read", &path))?,
        };
        if metadata.is_dir() {
            walk(&path, &name, depth.saturating_add(1), found, uri)?;
        } else if metadata.is_file() {
            found.push(local_file(name, &path, &metadata));
        }
        if found.len() > MAX_FILES {
            return Err(too_much(format!("it holds more than {MAX_FILES} files")));
        }
    }
    Ok(())
}

fn local_file(name: String, path: &Path, metadata: &fs::Metadata) -> LocalFile {
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let bytes = metadata.len();
    let stat = format!("{bytes} {}", changed.unwrap_or_default().as_nanos());
    LocalFile { name, path: path.to_owned(), bytes, stat }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_at(path: &Path, expected: Option<&str>) -> Result<Fetched, StorageError> {
        fetch(path, "it", expected, &|_| {}).await
    }

    #[tokio::test]
    async fn files_and_folders() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.onnx");
        fs::write(&file, "abc").unwrap();
        let before = look_at(folder.path(), None).await.unwrap();
        assert_eq!((before.bytes, before.source), (3, Source::Local));

        // printf abc | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hashed = look_at(&file, Some(abc)).await.unwrap();
        assert_eq!(hashed.fingerprint, format!("sha256:{abc}"));
        let of_folder = digest::of_folder([("m.onnx", abc)].into_iter());
        look_at(folder.path(), Some(&of_folder)).await.unwrap();
        let error = look_at(folder.path(), Some(abc)).await.unwrap_err();
        assert!(matches!(error, StorageError::Digest { actual, .. } if actual == of_folder));

        fs::write(folder.path().join("more"), "x").unwrap();
        let after = look_at(folder.path(), None).await.unwrap();
        assert_ne!(before.fingerprint, after.fingerprint);
        let missing = look_at(&folder.path().join("no"), None).await.unwrap_err();
        assert_eq!(missing.to_string(), "there is nothing at `it`");
    }

    #[tokio::test]
    async fn loops_of_links_end() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        let error = look_at(folder.path(), None).await.unwrap_err();
        assert!(error.to_string().contains("deep"), "{error}");
    }
}
