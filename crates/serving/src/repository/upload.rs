//! Model files that came with a load request.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use bytes::Bytes;
use tempfile::TempDir;

use super::source::{ModelFiles, ModelSource};

/// A folder of uploaded files, removed when the last version that came from it is gone.
#[derive(Debug)]
pub(crate) struct Upload {
    folder: TempDir,
}

impl Upload {
    /// Writes files by their path relative to the model's folder. The error says which is wrong.
    pub(crate) fn write(files: &BTreeMap<String, Bytes>) -> Result<Self, String> {
        for path in files.keys() {
            let inside =
                Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            if path.is_empty() || !inside || path.contains(['\0', '\\']) {
                return Err(format!("the file path {path:.200?} leaves the model's folder"));
            }
        }
        let failed = |error: std::io::Error| format!("cannot keep the uploaded files: {error}");
        // Readable by us alone: `tempfile` sees to that.
        let folder = tempfile::Builder::new().prefix("trainyard-").tempdir().map_err(failed)?;
        for (path, content) in files {
            let file = folder.path().join(path);
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            fs::write(&file, content).map_err(failed)?;
        }
        Ok(Self { folder })
    }

    /// The files as a model of this name.
    pub(crate) fn source(&self, name: &str) -> ModelSource {
        ModelSource {
            name: name.to_owned(),
            path: self.folder.path().to_owned(),
            files: ModelFiles::Versions,
        }
    }
}
