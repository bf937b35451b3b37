//! Where models come from: the layouts that people keep them in, and what changes there.
//!
//! In: the paths that a person named. Out: models with their versions, files and configurations.
//! Knows nothing of engines. What it says about a name that came from a client never depends on
//! anything outside the folders that were named.

mod fingerprint;
mod layout;
mod mlflow;
mod name;
mod policy;
mod source;
mod upload;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(crate) use fingerprint::Fingerprint;
pub(crate) use name::check_name;
pub(crate) use policy::choose_versions;
pub(crate) use source::ModelSource;
pub(crate) use upload::Upload;

use layout::Layout;

/// The targets that a server was given, with what each of them is.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Single models.
    models: Vec<ModelSource>,
    /// Folders of models, which may change.
    folders: Vec<PathBuf>,
}

impl Repository {
    /// Looks at every target, and says what is wrong with any.
    ///
    /// `may_be_empty`: models may be put there later.
    pub(crate) fn open(
        targets: &[PathBuf],
        name: Option<&str>,
        may_be_empty: bool,
    ) -> Result<Self, Vec<String>> {
        let mut repository = Self::default();
        let mut problems = Vec::new();
        if targets.is_empty() {
            problems.push("nothing to serve: name a model file or a folder".to_owned());
        }
        for target in targets {
            match layout::detect(target) {
                Ok(Layout::Model(source)) => repository.models.push(source),
                Ok(Layout::Repository) => repository.folders.push(target.clone()),
                Ok(Layout::Empty) if may_be_empty => repository.folders.push(target.clone()),
                Ok(Layout::Empty) => problems.push(format!(
                    "{} holds no model: expected an .onnx file, numbered versions, an MLflow \
                     model, or folders of those",
                    target.display()
                )),
                Err(problem) => problems.push(problem),
            }
        }
        if let Some(name) = name {
            match (repository.models.as_mut_slice(), targets.len()) {
                ([model], 1) => name.clone_into(&mut model.name),
                _ if problems.is_empty() => problems.push(format!(
                    "the name '{name}' was given, but there is not exactly one model to bear it"
                )),
                _ => {}
            }
        }
        let (found, duplicates) = repository.scan();
        problems.extend(duplicates);
        problems.extend(found.keys().filter_map(|name| check_name(name).err()));
        if problems.is_empty() { Ok(repository) } else { Err(problems) }
    }

    /// Every model there is now, by name, and a sentence for each name that is taken twice.
    pub(crate) fn scan(&self) -> (BTreeMap<String, ModelSource>, Vec<String>) {
        let mut found: BTreeMap<String, ModelSource> = BTreeMap::new();
        let mut duplicates = BTreeSet::new();
        let listed = self.folders.iter().flat_map(|folder| layout::models_in(folder));
        for source in self.models.iter().cloned().chain(listed) {
            match found.get(&source.name) {
                Some(other) => {
                    duplicates.insert(format!(
                        "two models are named '{}': {} and {}",
                        source.name,
                        other.path.display(),
                        source.path.display()
                    ));
                }
                None => {
                    found.insert(source.name.clone(), source);
                }
            }
        }
        (found, duplicates.into_iter().collect())
    }

    /// One model by its name, which may come from a client.
    pub(crate) fn find(&self, name: &str) -> Option<ModelSource> {
        check_name(name).ok()?;
        if let Some(model) = self.models.iter().find(|model| model.name == name) {
            return Some(model.clone());
        }
        self.folders.iter().find_map(|folder| layout::model_at(&folder.join(name)).ok().flatten())
    }
}

/// The last part of a path as text, also of `.` and of a path that ends in `/`.
fn file_name(path: &Path) -> String {
    let real;
    let named = match path.file_name() {
        Some(_) => path,
        None => {
            real = path.canonicalize().unwrap_or_default();
            &real
        }
    };
    named.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
