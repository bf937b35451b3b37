//! Tells whether a model on this machine has changed, without reading it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Files of one model; more than that is no model but somebody's home.
const MOST_FILES: usize = 10_000;

/// Changes when a file of the model does: its name, size, times or place on the disk. Blocks.
///
/// A time of change alone could stay the same: archives keep times in whole seconds, and networks of
/// one architecture have one size.
pub(crate) fn fingerprint(model: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    digest.update(model.as_os_str().as_encoded_bytes());
    for file in files(model)? {
        let metadata = fs::metadata(&file)?;
        digest.update(file.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(metadata.len().to_le_bytes());
        digest.update(metadata.ino().to_le_bytes());
        for (seconds, nanoseconds) in
            [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())]
        {
            digest.update(seconds.to_le_bytes());
            digest.update(nanoseconds.to_le_bytes());
        }
    }
    let hex: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("stat:{hex}"))
}

/// The files of a model, sorted. Blocks.
///
/// A file is taken together with those whose names begin with its own: ONNX keeps large weights in
/// files such as `model.onnx.data` beside the model.
pub(crate) fn files(model: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if fs::metadata(model)?.is_dir() {
        walk(model, &mut files)?;
    } else {
        files.push(model.to_owned());
        let name = model.file_name().unwrap_or_default().as_encoded_bytes();
        for entry in fs::read_dir(model.parent().unwrap_or(Path::new("/")))?.flatten() {
            let path = entry.path();
            let other = path.file_name().unwrap_or_default().as_encoded_bytes();
            if other.len() > name.len() && other.starts_with(name) && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if files.len() >= MOST_FILES {
            return Err(io::Error::other(format!(
                "there are more than {MOST_FILES} files, too many for a model"
            )));
        }
        // A link to a folder above would never end; links to files are common in model stores.
        if path.is_symlink() && path.is_dir() {
            files.push(path);
        } else if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.onnx");
        fs::write(&model, "one").unwrap();
        let of_file = || fingerprint(&model).unwrap();
        let of_folder = || fingerprint(folder.path()).unwrap();
        let (file, all) = (of_file(), of_folder());
        assert_eq!((&file, &all), (&of_file(), &of_folder()));
        fs::write(folder.path().join("model.onnx.data"), "weights").unwrap();
        assert_ne!(of_file(), file, "weights beside the model belong to it");
        let file = of_file();
        fs::write(folder.path().join("readme.txt"), "x").unwrap();
        assert_eq!(of_file(), file);
        assert_ne!(of_folder(), all);
        fs::write(&model, "longer").unwrap();
        assert_ne!(of_file(), file);
        assert!(fingerprint(&folder.path().join("none")).is_err());
    }
}
