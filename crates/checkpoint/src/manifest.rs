//! What one worker saved of a checkpoint: its files, and the chunks that they are made of.
//!
//! A line that names the format and the hash of what follows, then JSON. What is read was perhaps
//! written by somebody else: every number and name in it is checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chunk;
use crate::recognise::Layout;
use crate::tree::MAX_FILES;

/// First word of the first line.
const FORMAT: &str = "trainyard-checkpoint";
const VERSION: u32 = 1;
/// A checkpoint of 4 TiB in chunks of 16 MiB has 18 MB of hashes.
pub(crate) const MAX_BYTES: u64 = 64 << 20;
/// Chunks are held in memory, some at once.
pub(crate) const MAX_CHUNK_BYTES: u64 = 256 << 20;
/// As many workers as the names of parts have digits for.
const MAX_PARTS: u32 = 99_999;
/// What file systems allow a name.
const MAX_NAME_BYTES: usize = 255;

/// Which of the workers that save, counted from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub index: u32,
    pub of: u32,
}

impl Part {
    /// One worker saves for all.
    pub const WHOLE: Self = Self { index: 0, of: 1 };
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Manifest {
    /// What its folder or file is called.
    pub(crate) name: String,
    /// Tells checkpoints of one name apart.
    pub(crate) label: String,
    pub(crate) part: Part,
    /// Orders checkpoints: milliseconds since the Unix epoch, or more than the newest before it.
    pub(crate) sequence: u64,
    pub(crate) layout: Layout,
    /// Whether the files lie in a folder of the checkpoint's name, or among others.
    pub(crate) is_folder: bool,
    pub(crate) chunk_bytes: u64,
    /// By relative path.
    pub(crate) files: BTreeMap<String, SavedFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) empty_folders: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedFile {
    pub(crate) bytes: u64,
    /// SHA-256 of each chunk; all but the last have `chunk_bytes`.
    pub(crate) chunks: Vec<String>,
}

/// A chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice<'a> {
    pub(crate) path: &'a str,
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: &'a str,
}

impl Manifest {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// All chunks, file by file.
    pub(crate) fn slices(&self) -> impl Iterator<Item = Slice<'_>> {
        self.files.iter().flat_map(|(path, file)| {
            let places = (0u64..).map(|n| n.saturating_mul(self.chunk_bytes));
            file.chunks.iter().zip(places).map(|(sha256, at)| Slice {
                path,
                at,
                bytes: file.bytes.saturating_sub(at).min(self.chunk_bytes),
                sha256,
            })
        })
    }

    /// Whether both hold the same content under the same name.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.name.clone(), it.part, it.is_folder, it.chunk_bytes);
        key(self) == key(other)
            && self.files == other.files
            && self.empty_folders == other.empty_folders
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("a manifest has text for keys");
        let mut bytes =
            format!("{FORMAT} {VERSION} sha256:{}\n", chunk::sha256(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a manifest. The error says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let line = bytes.iter().position(|byte| *byte == b'\n').filter(|at| *at < 200);
        let (head, body) = line
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or("it is no manifest of a checkpoint")?;
        let body = body.get(1..).unwrap_or_default();
        let mut words = head.split(|byte| *byte == b' ').map(|word| str::from_utf8(word).ok());
        if words.next().flatten() != Some(FORMAT) {
            return Err("it is no manifest of a checkpoint".to_owned());
        }
        let version = words.next().flatten().and_then(|it| it.parse::<u32>().ok());
        match version {
            Some(VERSION) => {}
            Some(version) if version > VERSION => {
                return Err(format!(
                    "it has the format {version}, and this trainyard knows {VERSION}: use a newer one"
                ));
            }
            _ => return Err("it is no manifest of a checkpoint".to_owned()),
        }
        let hash = words.next().flatten().and_then(|word| word.strip_prefix("sha256:"));
        if hash != Some(chunk::sha256(body).as_str()) {
            return Err("it is cut short or changed: its hash does not fit".to_owned());
        }
        let manifest: Self =
            serde_json::from_slice(body).map_err(|error| format!("it cannot be read: {error}"))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        trainyard_storage::check_path(&self.name)
            .map_err(|reason| format!("its name {:?} cannot be used: {reason}", self.name))?;
        if self.name.contains('/') || self.name.len() > MAX_NAME_BYTES {
            return Err(format!("its name {:?} is no name of a file", self.name));
        }
        let Part { index, of } = self.part;
        if index >= of || of > MAX_PARTS {
            return Err(format!("it is part {index} of {of}"));
        }
        if self.chunk_bytes == 0 || self.chunk_bytes > MAX_CHUNK_BYTES {
            return Err(format!("its chunks of {} bytes are none", self.chunk_bytes));
        }
        if self.files.is_empty() || self.files.len() > MAX_FILES {
            return Err(format!("it has {} files", self.files.len()));
        }
        for path in self.files.keys().chain(&self.empty_folders) {
            trainyard_storage::check_path(path)
                .map_err(|reason| format!("the file {path:?} cannot be: {reason}"))?;
            let mut above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            if let Some(file) = above.find(|above| self.files.contains_key(*above)) {
                return Err(format!("{file:?} is a file and a folder at once"));
            }
        }
        if let Some(folder) = self.empty_folders.iter().find(|it| self.files.contains_key(*it)) {
            return Err(format!("{folder:?} is a file and a folder at once"));
        }
        for (path, file) in &self.files {
            if file.bytes.div_ceil(self.chunk_bytes) != file.chunks.len() as u64 {
                return Err(format!("the file {path:?} has another length than its chunks"));
            }
            if let Some(chunk) = file.chunks.iter().find(|chunk| !chunk::is_sha256(chunk)) {
                return Err(format!("{chunk:?} is no SHA-256"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
