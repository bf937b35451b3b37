//! One model's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Fingerprint;
use super::versions::{in_folder, model_file, versions_in};
use crate::config::{self, Origin, ReadConfig};

/// Where one model is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelSource {
    pub(crate) name: String,
    /// The file or folder that was found, for messages; the folder that label and warm-up files
    /// are relative to.
    pub(crate) path: PathBuf,
    pub(crate) files: ModelFiles,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelFiles {
    /// One model file, which is version 1.
    Single(PathBuf),
    /// Folders named by numbers, and perhaps a configuration.
    Versions,
    /// A folder that is meant to be a model, and what is wrong with it.
    Unusable(String),
}

/// The versions of a model there are, each the path that changes when the version does.
pub(crate) type Versions = BTreeMap<u64, PathBuf>;

impl ModelSource {
    /// The versions there are, whatever the policy.
    pub(crate) fn versions(&self) -> Result<Versions, String> {
        match &self.files {
            ModelFiles::Single(file) => Ok(BTreeMap::from([(1, file.clone())])),
            ModelFiles::Versions => {
                versions_in(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))
            }
            ModelFiles::Unusable(problem) => Err(problem.clone()),
        }
    }

    /// Reads the configuration beside the versions, or gives an empty one.
    pub(crate) fn read_config(&self) -> Result<ReadConfig, Vec<String>> {
        if self.files != ModelFiles::Versions {
            return Ok(ReadConfig::default());
        }
        let path = self.path.join(config::FILE_NAME);
        if !path.exists() {
            return Ok(ReadConfig::default());
        }
        let read = config::read_file(&path)?;
        self.check_name(&read.config.name, &read.origin)?;
        Ok(read)
    }

    /// Refuses a configuration that names another model.
    pub(crate) fn check_name(&self, configured: &str, origin: &Origin) -> Result<(), Vec<String>> {
        if configured.is_empty() || configured == self.name {
            return Ok(());
        }
        let message = format!(
            "the name '{configured}' differs from the model's, which is '{}' after its folder",
            self.name
        );
        Err(vec![origin.field("name", &message)])
    }

    /// The model file of one version; `file_name` is what the configuration says, if anything.
    pub(crate) fn model_file(&self, version: &Path, file_name: &str) -> Result<PathBuf, String> {
        match self.files {
            ModelFiles::Versions => model_file(version, file_name),
            _ if version.is_dir() => in_folder(version),
            _ => Ok(version.to_owned()),
        }
    }

    /// Of the files that concern all versions: configuration, labels, warm-up data.
    pub(crate) fn shared_fingerprint(&self) -> Fingerprint {
        if self.files != ModelFiles::Versions {
            return Fingerprint::default();
        }
        let mut files = Fingerprint::of_files_in(&self.path);
        files.merge(Fingerprint::of(&self.path.join("warmup")));
        files
    }

    /// Of everything the model is made of.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut files = self.shared_fingerprint();
        for version in self.versions().unwrap_or_default().values() {
            files.merge(Fingerprint::of(version));
        }
        files
    }
}
