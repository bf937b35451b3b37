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

    fn has_versions(&self) -> bool {
        self.folders.iter().any(|folder| is_version(&name(folder)))
    }

    /// The same rules as those of the replica that loads it.
    fn content(&self) -> Content {
        if self.has("MLmodel") {
            return Content::MlFlow;
        }
        if self.has("config.pbtxt") || self.has_versions() {
            return Content::Model;
        }
        let entries = self.files.iter().chain(&self.folders);
        let onnx: Vec<String> =
            entries.filter(|path| extension(path) == Some("onnx")).map(|path| name(path)).collect();
        match onnx.as_slice() {
            [] => Content::Other,
            [_] => Content::Model,
            several if several.iter().any(|name| name == "model.onnx") => Content::Model,
            _ => Content::Several(onnx),
        }
    }
}

/// What a folder is by what it holds.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    MlFlow,
    Model,
    /// Several models, none of which is the one that is meant.
    Several(Vec<String>),
    /// No model itself; there may be some in its folders.
    Other,
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A folder whose name is a number is a version; those that begin with 0 are none, as in Triton.
fn is_version(name: &str) -> bool {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    is_number && name.parse::<i64>().is_ok()
}

/// The models of a folder: itself, or those in it.
pub(super) fn models(folder: &Path, listing: &Listing) -> Result<Vec<PathBuf>, TargetError> {
    let itself = || Ok(vec![folder.to_owned()]);
    match listing.content() {
        Content::MlFlow => {
            check_flavors(folder)?;
            return itself();
        }
        Content::Model => return itself(),
        Content::Several(names) => {
            return Err(TargetError::Several { path: folder.to_owned(), names: names.join(", ") });
        }
        Content::Other => {}
    }
    let mut models = Vec::new();
    for inner in &listing.folders {
        let read = |source| TargetError::Read { path: inner.clone(), source };
        // One that cannot be used is told of when it is loaded, and stands in no other's way.
        if Listing::of(inner).map_err(read)?.content() != Content::Other {
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
