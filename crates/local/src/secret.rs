//! Secrets of this machine: files, and `Secret` manifests.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A value that no log, event or status shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself; for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret cannot be had. Names the secret, never a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(
        "there is no secret `{name}`; make a folder `{folder}` with a file for each key, or add a `kind: Secret` with this name to the manifests"
    )]
    NoSecret { name: String, folder: PathBuf },
    #[error("secret `{name}` has no key `{key}`; it has {has}")]
    NoKey { name: String, key: String, has: String },
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{path}` is not UTF-8")]
    NotText { path: PathBuf },
    #[error("`{name}` is not a name of a secret")]
    BadName { name: String },
}

/// Keys and values of one secret.
pub type Entries = BTreeMap<String, Secret>;

/// All secrets that replicas and the gateway may use.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    folder: PathBuf,
    /// From manifests; these win over the folder.
    declared: BTreeMap<String, Entries>,
}

impl Secrets {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, declared: BTreeMap::new() }
    }

    pub(crate) fn declare(&mut self, name: String, entries: Entries) {
        self.declared.insert(name, entries);
    }

    /// The whole secret of that name. Reads files.
    pub(crate) fn entries(&self, name: &str) -> Result<Entries, SecretError> {
        if let Some(entries) = self.declared.get(name) {
            return Ok(entries.clone());
        }
        // The name comes from a manifest: it must not lead out of the folder.
        let is_plain = !name.starts_with('.') && !name.contains(['/', '\0']) && !name.is_empty();
        if !is_plain {
            return Err(SecretError::BadName { name: name.to_owned() });
        }
        read_folder(name, &self.folder.join(name))
    }

    /// One value. Reads files.
    pub(crate) fn value(&self, name: &str, key: &str) -> Result<Secret, SecretError> {
        let mut entries = self.entries(name)?;
        entries.remove(key).ok_or_else(|| SecretError::NoKey {
            name: name.to_owned(),
            key: key.to_owned(),
            has: match entries.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>() {
                keys if keys.is_empty() => "none".to_owned(),
                keys => keys.join(", "),
            },
        })
    }
}

fn read_folder(name: &str, folder: &Path) -> Result<Entries, SecretError> {
    let read = |path: &Path, source| SecretError::Read { path: path.to_owned(), source };
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SecretError::NoSecret { name: name.to_owned(), folder: folder.to_owned() });
        }
        Err(error) => return Err(read(folder, error)),
    };
    let mut entries = Entries::new();
    for entry in listing {
        let path = entry.map_err(|error| read(folder, error))?.path();
        let Some(key) = path.file_name().and_then(|key| key.to_str()) else { continue };
        if key.starts_with('.') || !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| read(&path, error))?;
        let text =
            String::from_utf8(bytes).map_err(|_| SecretError::NotText { path: path.clone() })?;
        // Editors and `echo` end a file with a line feed that is no part of the value.
        let value = text.strip_suffix('\n').unwrap_or(&text);
        let value = value.strip_suffix('\r').unwrap_or(value);
        entries.insert(key.to_owned(), Secret::new(value.to_owned()));
    }
    Ok(entries)
}

/// A `kind: Secret` document, as Kubernetes has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    metadata: Metadata,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

/// Name and entries of the `Secret` in a YAML document, or what is wrong with it.
///
/// The message never quotes the document: it holds secrets.
pub(crate) fn parse(yaml: &str) -> Result<(String, Entries), String> {
    let document: Document = serde_saphyr::from_str(yaml).map_err(|_| {
        "a `Secret` needs `metadata.name`, and `stringData` or `data` with a text for each key"
            .to_owned()
    })?;
    let mut entries = Entries::new();
    for (key, encoded) in document.data {
        let text = STANDARD.decode(encoded.trim()).ok().and_then(|b| String::from_utf8(b).ok());
        let text = text.ok_or_else(|| {
            format!("`data.{key}` is not the base64 of a text; `stringData` takes it as it is")
        })?;
        entries.insert(key, Secret::new(text));
    }
    entries.extend(document.string_data.into_iter().map(|(key, text)| (key, Secret::new(text))));
    Ok((document.metadata.name, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_keys() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("keys")).unwrap();
        fs::write(folder.path().join("keys/alice"), "s3cret\n").unwrap();
        let secrets = Secrets::new(folder.path().to_owned());
        assert_eq!(secrets.value("keys", "alice").unwrap().expose(), "s3cret");
        let error = secrets.value("keys", "bob").unwrap_err().to_string();
        assert_eq!(error, "secret `keys` has no key `bob`; it has `alice`");
        assert!(matches!(secrets.value("other", "x"), Err(SecretError::NoSecret { .. })));
        for name in ["..", "a/b", "", ".hidden"] {
            assert!(matches!(secrets.entries(name), Err(SecretError::BadName { .. })), "{name}");
        }
    }

    #[test]
    fn a_manifest_is_read_and_wins() {
        let (name, entries) = parse(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {alice: plain}\ndata: {bob: aGlkZGVu}\n",
        )
        .unwrap();
        let mut secrets = Secrets::new(PathBuf::from("/nonexistent"));
        secrets.declare(name, entries);
        assert_eq!(secrets.value("keys", "alice").unwrap().expose(), "plain");
        assert_eq!(secrets.value("keys", "bob").unwrap().expose(), "hidden");
        assert_eq!(format!("{secrets:?}").matches("hidden").count(), 0);
    }

    #[test]
    fn a_mistake_does_not_show_the_document() {
        let error = parse("metadata: {name: x}\ndata: {k: '%%%hidden'}\n").unwrap_err();
        assert!(error.contains("data.k") && !error.contains("hidden"), "{error}");
        let error = parse("stringData: {k: hidden}\n").unwrap_err();
        assert!(!error.contains("hidden"), "{error}");
    }
}
