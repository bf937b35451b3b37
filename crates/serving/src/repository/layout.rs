//! Which of the known layouts a path has.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::{ModelFiles, ModelSource};
use super::versions::version_of;
use super::{check_name, file_name, mlflow};
use crate::config;

/// What a target is.
#[derive(Debug)]
pub(super) enum Layout {
    Model(ModelSource),
    /// A folder of models.
    Repository,
    Empty,
}

/// Finds out what a target is.
pub(super) fn detect(target: &Path) -> Result<Layout, String> {
    let metadata =
        fs::metadata(target).map_err(|error| format!("{}: {error}", target.display()))?;
    if !metadata.is_dir() {
        if target.extension().is_none_or(|extension| extension != "onnx") {
            return Err(format!(
                "{} is not an .onnx file; other formats need their own server",
                target.display()
            ));
        }
        let name = target.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let files = ModelFiles::Single(target.to_owned());
        return Ok(Layout::Model(ModelSource { name, path: target.to_owned(), files }));
    }
    if let Some(source) = model_at(target)? {
        return Ok(Layout::Model(source));
    }
    let holds_models = !models_in(target).is_empty();
    Ok(if holds_models { Layout::Repository } else { Layout::Empty })
}

/// The models of a repository. A folder that is no model is passed over, for there may be others
/// beside them.
pub(super) fn models_in(folder: &Path) -> Vec<ModelSource> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if !path.is_dir() || check_name(&file_name(&path)).is_err() {
            continue;
        }
        match model_at(&path) {
            Ok(source) => found.extend(source),
            // Reported when it is loaded, like any other mistake in a model's files.
            Err(problem) => found.push(ModelSource {
                name: file_name(&path),
                files: ModelFiles::Unusable(problem),
                path,
            }),
        }
    }
    found
}

/// The model that a folder is, if it is one.
pub(super) fn model_at(folder: &Path) -> Result<Option<ModelSource>, String> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let source =
        |files| Ok(Some(ModelSource { name: file_name(folder), path: folder.to_owned(), files }));
    if folder.join(mlflow::FILE_NAME).is_file() {
        return source(ModelFiles::Single(mlflow::onnx_file(folder)?));
    }
    let entries = entries(folder);
    let is_versioned = entries.iter().any(|path| version_of(path).is_some());
    if is_versioned || folder.join(config::FILE_NAME).is_file() {
        return source(ModelFiles::Versions);
    }
    let models: Vec<&PathBuf> = entries
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    match models.as_slice() {
        [] => Ok(None),
        [model] => source(ModelFiles::Single((*model).clone())),
        several => match several.iter().find(|path| path.ends_with("model.onnx")) {
            Some(model) => source(ModelFiles::Single((*model).clone())),
            None => Err(format!(
                "{} holds several models ({}); name one of the files",
                folder.display(),
                several.iter().map(|path| file_name(path)).collect::<Vec<_>>().join(", ")
            )),
        },
    }
}

/// What a folder holds, hidden entries aside, in order. What cannot be read is empty.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !file_name(path).starts_with('.'))
        .collect();
    paths.sort();
    paths
}
