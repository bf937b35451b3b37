//! `.trainyard-lint.yaml`.

use std::path::{Path, PathBuf};

use miette::miette;
use trainyard_rules::Settings;

use super::read_named;

const NAME: &str = ".trainyard-lint.yaml";

/// Settings, and the folder that their paths start from.
pub(super) struct Configuration {
    pub(super) settings: Settings,
    pub(super) folder: Option<PathBuf>,
}

impl Configuration {
    /// Reads a named file, or the nearest one from a folder upwards; the current one if none is given.
    pub(super) fn load(named: Option<&Path>, from: Option<&Path>) -> miette::Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => match nearest(from) {
                Some(path) => path,
                None => return Ok(Self { settings: Settings::default(), folder: None }),
            },
        };
        let text = read_named(&path)?;
        let settings = serde_saphyr::from_str(&text)
            .map_err(|error| miette!("cannot use the settings in {}: {error}", path.display()))?;
        let folder =
            std::path::absolute(&path).ok().and_then(|path| Some(path.parent()?.to_owned()));
        Ok(Self { settings, folder })
    }

    /// Whether the settings leave a path out.
    pub(super) fn ignores(&self, path: &Path) -> bool {
        if self.settings.ignore_paths.is_empty() {
            return false;
        }
        let Ok(path) = std::path::absolute(path) else { return false };
        let inner = self.folder.as_deref().and_then(|folder| path.strip_prefix(folder).ok());
        let text = inner.unwrap_or(&path).to_string_lossy().replace('\\', "/");
        self.settings.ignores(&text)
    }
}

fn nearest(from: Option<&Path>) -> Option<PathBuf> {
    let from = match from {
        Some(folder) => folder.to_owned(),
        None => std::env::current_dir().ok()?,
    };
    from.ancestors().map(|folder| folder.join(NAME)).find(|path| path.is_file())
}
