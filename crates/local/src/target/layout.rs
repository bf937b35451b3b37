//! In which layout a folder holds models.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{TargetError, extension};

/// What a folder holds, by name, hidden things left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) files: Vec<PathBuf>,
    pub(super) folders: Vec<PathBuf>,
}

impl Listing {
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if name(&path).starts_with('.') {
                continue;
            }
            // Links count as what they lead to.
            if path.is_dir() { &mut listing.folders } else { &mut listing.files }.push(path);
        }
        listing.files.sort();
        listing.folders.sort();
        Ok(listing)
    }

    fn has(&self, file: &str) -> bool {
        self.files.iter().any(|path| name(path) == file)
    }

    fn versions(&self) -> impl Iterator<Item = &PathBuf> {
        self.folders.iter().filter(|folder| is_version(&name(folder)))
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Triton and TensorFlow Serving: a folder whose name is a number is a version.
fn is_version(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The models of a folder: itself, or those in it.
pub(super) fn models(folder: &Path, listing: &Listing) -> Result<Vec<PathBuf>, TargetError> {
    let itself = || Ok(vec![folder.to_owned()]);
    if listing.has("MLmodel") {
        check_flavors(folder)?;
        return itself();
    }
    if listing.has("config.pbtxt") || listing.versions().next().is_some() {
        return itself();
    }
    let onnx: Vec<String> = listing
        .files
        .iter()
        .filter(|file| extension(file) == Some("onnx"))
        .map(|file| name(file))
        .collect();
    match onnx.as_slice() {
        [] => {}
        [_] => return itself(),
        several if several.iter().any(|name| name == "model.onnx") => return itself(),
        several => {
            return Err(TargetError::Several {
                path: folder.to_owned(),
                names: several.join(", "),
            });
        }
    }
    let mut models = Vec::new();
    for inner in &listing.folders {
        let read = |source| TargetError::Read { path: inner.clone(), source };
        let inside = Listing::of(inner).map_err(read)?;
        if inside.has("config.pbtxt") || inside.versions().next().is_some() {
            models.push(inner.clone());
        }
    }
    if models.is_empty() {
        let found: Vec<String> = listing
            .files
            .iter()
            .chain(&listing.folders)
            .map(|path| format!("`{}`", name(path)))
            .take(5)
            .collect();
        return Err(TargetError::NoModel { path: folder.to_owned(), found: found.join(", ") });
    }
    Ok(models)
}

/// The part of MLflow's `MLmodel` file that says how the model can be loaded.
#[derive(Deserialize)]
struct MlModel {
    #[serde(default)]
    flavors: BTreeMap<String, serde::de::IgnoredAny>,
}

fn check_flavors(folder: &Path) -> Result<(), TargetError> {
    let path = folder.join("MLmodel");
    let text = fs::read_to_string(&path)
        .map_err(|source| TargetError::Read { path: path.clone(), source })?;
    let model: MlModel = serde_saphyr::from_str(&text)
        .map_err(|error| TargetError::MlModel { path, reason: error.to_string() })?;
    if model.flavors.contains_key("onnx") {
        return Ok(());
    }
    let flavors: Vec<String> = model.flavors.keys().map(|flavor| format!("`{flavor}`")).collect();
    let flavors = if flavors.is_empty() { "none".to_owned() } else { flavors.join(", ") };
    Err(TargetError::NoOnnxFlavor { path: folder.to_owned(), flavors })
}
