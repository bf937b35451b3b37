//! Numbered versions in a model's folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of a version's model where the configuration gives none.
pub(super) const MODEL_FILE: &str = "model.onnx";

/// The number that a folder's name is. Those that begin with 0 are none, as in Triton.
pub(super) fn version_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    // Wire protocols carry versions as signed 64-bit integers.
    let version = name.parse::<u64>().ok().filter(|version| i64::try_from(*version).is_ok());
    version.filter(|_| is_number && path.is_dir())
}

/// The folders of a model's versions.
pub(super) fn versions_in(folder: &Path) -> std::io::Result<BTreeMap<u64, PathBuf>> {
    let mut versions = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(version) = version_of(&path) {
            versions.insert(version, path);
        }
    }
    Ok(versions)
}

/// The model file of a version: the one that is named, or else the only one. A model may also be a
/// folder of that name, which holds `model.onnx` with its external data.
pub(super) fn model_file(version: &Path, name: &str) -> Result<PathBuf, String> {
    let named = version.join(if name.is_empty() { MODEL_FILE } else { name });
    if named.is_dir() {
        return in_folder(&named);
    }
    if named.exists() {
        return Ok(named);
    }
    let missing = || format!("{} does not exist", named.display());
    if !name.is_empty() {
        return Err(missing());
    }
    let entries =
        fs::read_dir(version).map_err(|error| format!("{}: {error}", version.display()))?;
    let mut others: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    match (others.pop(), others.is_empty()) {
        (Some(only), true) if only.is_dir() => in_folder(&only),
        (Some(only), true) => Ok(only),
        _ => Err(missing()),
    }
}

/// The model in a folder that stands for a model file.
pub(super) fn in_folder(folder: &Path) -> Result<PathBuf, String> {
    let file = folder.join(MODEL_FILE);
    if file.is_file() { Ok(file) } else { Err(format!("{} does not exist", file.display())) }
}
