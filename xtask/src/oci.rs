//! OCI images, written without a container engine.
//!
//! Equal inputs give equal bytes: entries are sorted, and no time, user or name of the machine that
//! builds gets in. Format: the OCI image layout and image specification 1.1.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// One file, folder or link of a layer.
pub(crate) struct Entry {
    /// Without a slash at either end.
    path: String,
    content: Content,
    mode: u32,
}

/// What is at a path.
pub(crate) enum Content {
    File(Vec<u8>),
    Folder,
    /// A symbolic link to this target.
    Link(String),
}

impl Entry {
    pub(crate) fn file(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), content: Content::File(content.into()), mode: 0o644 }
    }

    pub(crate) fn program(path: &str, content: Vec<u8>) -> Self {
        Self { path: path.to_owned(), content: Content::File(content), mode: 0o755 }
    }

    pub(crate) fn folder(path: &str, mode: u32) -> Self {
        Self { path: path.to_owned(), content: Content::Folder, mode }
    }

    /// A symbolic link to `target`.
    pub(crate) fn link(path: &str, target: &str) -> Self {
        Self { path: path.to_owned(), content: Content::Link(target.to_owned()), mode: 0o777 }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) fn mode(&self) -> u32 {
        self.mode
    }
}

/// A layer: what it adds, by path.
#[derive(Default)]
pub(crate) struct Layer {
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    /// Adds an entry and the folders above it.
    pub(crate) fn add(&mut self, entry: Entry) {
        for (at, _) in entry.path.match_indices('/') {
            let parent = &entry.path[..at];
            let folder = || Entry::folder(parent, 0o755);
            self.entries.entry(parent.to_owned()).or_insert_with(folder);
        }
        self.entries.insert(entry.path.clone(), entry);
    }

    /// All entries, a folder before what is in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    fn archive(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for entry in self.iter() {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            match &entry.content {
                Content::File(content) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, &entry.path, content.as_slice())?;
                }
                Content::Folder => {
                    header.set_entry_type(EntryType::Directory);
                    archive.append_data(&mut header, format!("{}/", entry.path), io::empty())?;
                }
                Content::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, &entry.path, target)?;
                }
            }
        }
        archive.into_inner()
    }
}

/// An image for Linux on this machine's processor.
pub(crate) struct Image {
    /// Name and tag, such as `localhost/trainyard:0.1.0`.
    name: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) environment: Vec<String>,
    /// `UID:GID`; root where it is empty.
    pub(crate) user: String,
    pub(crate) folder: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The lowest first.
    pub(crate) layers: Vec<Layer>,
}

/// Names a blob by its content.
struct Blob {
    digest: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        let digest = Sha256::digest(&content);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest: format!("sha256:{digest}"), content }
    }

    fn descriptor(&self, kind: &str) -> serde_json::Value {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": self.digest,
            "size": self.content.len(),
        })
    }
}

impl Image {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: Vec::new(),
            environment: Vec::new(),
            user: String::new(),
            folder: "/".to_owned(),
            labels: BTreeMap::new(),
            layers: Vec::new(),
        }
    }

    /// Writes the image as one archive and returns its manifest's digest.
    ///
    /// The archive appears under its name only once it is whole.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<String> {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let staged = tempfile::NamedTempFile::new_in(folder)?;
        let digest = self.write_to(BufWriter::new(staged.as_file()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        staged.as_file().set_permissions(mode)?;
        staged.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(digest)
    }

    fn write_to(&self, output: BufWriter<&File>) -> anyhow::Result<String> {
        let mut layers = Vec::new();
        for layer in &self.layers {
            layers.push(Blob::new(layer.archive()?));
        }
        let config = Blob::new(serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": self.environment,
                "User": self.user,
                "WorkingDir": self.folder,
                "Labels": self.labels,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|it| &it.digest).collect::<Vec<_>>(),
            },
        }))?);
        let manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("config.v1+json"),
            "layers": layers.iter().map(|it| it.descriptor("layer.v1.tar")).collect::<Vec<_>>(),
        }))?);
        let mut described = manifest.descriptor("manifest.v1+json");
        described["annotations"] = json!({
            // What containerd's import names the image; the other is for tools that want a tag.
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rsplit(':').next(),
        });
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [described],
        }))?;

        let mut archive = Builder::new(output);
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", &index)?;
        let digest = manifest.digest.clone();
        let mut blobs: Vec<_> = layers.into_iter().chain([config, manifest]).collect();
        blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
        blobs.dedup_by(|a, b| a.digest == b.digest);
        for blob in blobs {
            let name = format!("blobs/{}", blob.digest.replace(':', "/"));
            append(&mut archive, &name, &blob.content)?;
        }
        archive.into_inner()?.flush()?;
        Ok(digest)
    }
}

fn append<W: Write>(archive: &mut Builder<W>, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content)
}

/// The processor's name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn image(order: &[&str]) -> Image {
        let mut layer = Layer::default();
        for path in order {
            layer.add(Entry::file(path, path.as_bytes()));
        }
        let mut image = Image::new("localhost/x:1");
        image.layers = vec![layer];
        image
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        let first = image(&["etc/b", "etc/a", "z"]).write(&one).unwrap();
        let second = image(&["z", "etc/a", "etc/b"]).write(&two).unwrap();
        assert_eq!(first, second);
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
        assert_ne!(first, image(&["etc/b", "etc/a"]).write(&folder.path().join("3")).unwrap());
    }

    #[test]
    fn every_blob_is_what_its_name_says_and_all_that_is_named_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        let digest = image(&["etc/a"]).write(&path).unwrap();

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(File::open(path).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(Blob::new(content.clone()).digest, format!("sha256:{hex}"));
            }
            files.insert(name, content);
        }
        let json = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&files[name]).expect("a JSON file")
        };
        let blob = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        let index = json("index.json");
        assert_eq!(index["manifests"][0]["digest"], digest.as_str());
        let manifest = json(&blob(&digest));
        let config = json(&blob(manifest["config"]["digest"].as_str().unwrap()));
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], layer);
        assert!(files.contains_key(&blob(layer)));
    }

    #[test]
    fn folders_come_before_their_files_and_long_paths_survive() {
        let long = format!("{}/file", "z-long-folder-name".repeat(8));
        let archive = image(&[&long, "a/b/c"]).layers[0].archive().unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        let folder = format!("{}/", "z-long-folder-name".repeat(8));
        assert_eq!(paths, ["a/", "a/b/", "a/b/c", &folder, &long]);
    }
}
