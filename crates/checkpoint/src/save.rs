//! Uploading one checkpoint: chunks first, and the manifest that names them when all are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio::time::Instant;
use trainyard_storage::read_part;

use crate::candidate::Candidate;
use crate::error::{self, CheckpointError, files};
use crate::guard::{self, Keys};
use crate::lazily::lazily;
use crate::manifest::{Manifest, Part, SavedFile};
use crate::store::{StepId, Store};
use crate::tree::{FileStat, Tree, stat};
use crate::{chunk, keys};

/// Files that are held open during an upload, so that a program may remove its old checkpoints
/// meanwhile. Processes may open 1024 files by default.
const MAX_OPEN: usize = 256;

/// Where a checkpoint belongs.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub(crate) part: Part,
    /// Tells starts of the same workers apart; parts of one start only are put together.
    pub(crate) attempt: String,
    /// It was written just now and after all others, so it is newer than everything in the store.
    pub(crate) is_new: bool,
    /// It was seen once; from this moment on a second look says whether it was complete.
    pub(crate) look_again: Option<Instant>,
}

/// A checkpoint that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) id: StepId,
    /// It was not there before.
    pub(crate) is_published: bool,
}

/// Bytes of an upload.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) uploaded: AtomicU64,
    /// That the store had already.
    pub(crate) reused: AtomicU64,
    /// Publishes under way. One that is dropped leaves its lock, which keeps others from removing old
    /// checkpoints for minutes.
    pub(crate) publishing: AtomicU64,
}

/// That a publish is under way, for as long as it lives.
struct Publishing<'a>(&'a AtomicU64);

impl<'a> Publishing<'a> {
    fn begin(meter: &'a Meter) -> Self {
        meter.publishing.fetch_add(1, Ordering::Relaxed);
        Self(&meter.publishing)
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where one chunk of a file is.
#[derive(Clone, Copy)]
struct Piece<'a> {
    path: &'a str,
    at: u64,
    bytes: u64,
}

struct Upload<'a> {
    store: &'a Store,
    name: &'a str,
    source: Source<'a>,
    /// Sizes of chunks that the store had.
    known: BTreeMap<String, u64>,
    /// Chunks that this upload has written, or is about to: another piece of the same content waits
    /// for nobody, since the upload fails as a whole if the first one does.
    begun: Mutex<BTreeSet<String>>,
    meter: &'a Meter,
}

impl Store {
    /// Makes a checkpoint durable. Dropping the future at any moment leaves the store as good as it
    /// was, and what was uploaded is used by the next call.
    pub(crate) async fn save(
        &self,
        candidate: &Candidate,
        stamp: &Stamp,
        meter: &Meter,
    ) -> Result<Saved, CheckpointError> {
        let Stamp { part, .. } = *stamp;
        if part.of > 1 && candidate.step().is_none() {
            let (name, of) = (candidate.name.clone(), part.of);
            return Err(CheckpointError::Unnumbered { name, of });
        }
        let source = Source::open(&candidate.tree, &candidate.name)?;
        let known = self.chunk_sizes().await?;
        let (name, begun) = (candidate.name.as_str(), Mutex::default());
        let mut upload = Upload { store: self, name, source, known, begun, meter };
        let changed = || CheckpointError::Changed { name: candidate.name.clone() };
        // Not when all is uploaded: by then it may have made room for the next one.
        let second_look = async {
            let Some(at) = stamp.look_again else { return Ok(()) };
            tokio::time::sleep_until(at).await;
            let seen = candidate.clone();
            let is_same = chunk::blocking(move || seen.is_still_there()).await;
            if is_same { Ok(()) } else { Err(changed()) }
        };
        let (files, ()) = tokio::try_join!(upload.files(&candidate.tree), second_look)?;
        if !upload.source.is_unchanged(candidate) {
            return Err(changed());
        }

        let catalogue = self.catalogue().await?;
        let written = candidate.tree.modified_ms();
        let sequence = match stamp.is_new {
            true => written.max(catalogue.newest_sequence().saturating_add(1)),
            false => written,
        };
        let label = if part.of > 1 { stamp.attempt.clone() } else { sequence.to_string() };
        let manifest = Manifest {
            name: candidate.name.clone(),
            label,
            part,
            sequence,
            layout: candidate.layout(),
            is_folder: candidate.is_folder,
            chunk_bytes: self.tuning.chunk_bytes,
            files,
            empty_folders: candidate.tree.empty_folders.iter().cloned().collect(),
        };
        let same = catalogue.steps.iter().enumerate().find(|(_, step)| {
            let is_label = part.of == 1 || step.id.label == manifest.label;
            let held = step.parts.get(&part.index);
            is_label && step.of == part.of && held.is_some_and(|it| it.is_same_content(&manifest))
        });
        if let Some((place, step)) = same
            // Content that comes back after another one is the newest again.
            && (place == 0 || part.of > 1 || !stamp.is_new)
        {
            return Ok(Saved { id: step.id.clone(), is_published: false });
        }
        let is_published = upload.publish(&manifest).await?;
        let id = StepId { name: manifest.name, label: manifest.label };
        Ok(Saved { id, is_published })
    }

    pub(crate) async fn chunk_sizes(&self) -> Result<BTreeMap<String, u64>, CheckpointError> {
        let listed = self.objects.list(keys::CHUNKS).await;
        let listed = listed.map_err(error::store("list the store's chunks"))?;
        let sizes = listed.into_iter().filter_map(|object| {
            let sha256 = object.key.rsplit('/').next().filter(|name| chunk::is_sha256(name))?;
            Some((sha256.to_owned(), object.bytes))
        });
        Ok(sizes.collect())
    }
}

impl Upload<'_> {
    async fn files(&self, tree: &Tree) -> Result<BTreeMap<String, SavedFile>, CheckpointError> {
        let size = self.store.tuning.chunk_bytes;
        let pieces = tree.files.iter().flat_map(|(path, stat)| {
            let starts = (0..stat.bytes.div_ceil(size)).map(move |n| n.saturating_mul(size));
            starts.map(move |at| Piece { path, at, bytes: stat.bytes.saturating_sub(at).min(size) })
        });
        let uploads = pieces.map(|piece| {
            async move {
                let hash = self.piece(piece).await?;
                Ok::<_, CheckpointError>((piece.path, piece.at, hash))
            }
            .boxed()
        });
        let mut hashes: Vec<(&str, u64, String)> =
            lazily(uploads).buffer_unordered(self.store.tuning.parallel).try_collect().await?;
        hashes.sort_unstable();
        let mut saved: BTreeMap<String, SavedFile> = tree
            .files
            .iter()
            .map(|(path, stat)| (path.clone(), SavedFile { bytes: stat.bytes, chunks: Vec::new() }))
            .collect();
        for (path, _, hash) in hashes {
            if let Some(file) = saved.get_mut(path) {
                file.chunks.push(hash);
            }
        }
        Ok(saved)
    }

    /// Makes one chunk durable and tells its hash.
    async fn piece(&self, piece: Piece<'_>) -> Result<String, CheckpointError> {
        let (hash, bytes) = self.read(piece).await?;
        if !self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(hash.clone()) {
            self.meter.reused.fetch_add(piece.bytes, Ordering::Relaxed);
            return Ok(hash);
        }
        self.write(&hash, bytes).await?;
        Ok(hash)
    }

    async fn read(&self, piece: Piece<'_>) -> Result<(String, Bytes), CheckpointError> {
        let path = self.source.tree.path(piece.path);
        let file = match self.source.open.get(piece.path) {
            Some(file) => Arc::clone(file),
            None => Arc::new(self.source.open_now(piece.path, self.name)?),
        };
        let read = chunk::blocking(move || {
            let bytes = read_part(&file, piece.at, piece.bytes)?;
            Ok((chunk::sha256(&bytes), bytes))
        });
        let (hash, bytes): (String, Bytes) = read.await.map_err(files("read", &path))?;
        if bytes.len() as u64 != piece.bytes {
            return Err(CheckpointError::Changed { name: self.name.to_owned() });
        }
        Ok((hash, bytes))
    }

    /// A chunk that the store has is compared before it is relied on, and mended if it is damaged.
    async fn write(&self, hash: &str, bytes: Bytes) -> Result<(), CheckpointError> {
        let (key, length) = (keys::chunk(hash), bytes.len() as u64);
        let objects = &self.store.objects;
        if self.known.get(hash) == Some(&length)
            && objects
                .holds(&key, bytes.clone())
                .await
                .map_err(error::store(format!("compare a chunk of `{}`", self.name)))?
        {
            self.meter.reused.fetch_add(length, Ordering::Relaxed);
            return Ok(());
        }
        let put = objects.put(&key, bytes).await;
        put.map_err(error::store(format!("upload `{}`", self.name)))?;
        self.meter.uploaded.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the manifest, once all its chunks are there while nobody removes any of them.
    async fn publish(&mut self, manifest: &Manifest) -> Result<bool, CheckpointError> {
        let _publishing = Publishing::begin(self.meter);
        let chunks = manifest.slices().map(|slice| keys::chunk(slice.sha256));
        let own = keys::manifest(&manifest.name, &manifest.label, manifest.part);
        let needed = Keys::of(chunks.chain([own]));
        loop {
            let lock = guard::publish(self.store, &needed).await?;
            let published = self.publish_under(&lock, manifest).await;
            lock.release().await;
            if let Some(published) = published? {
                return Ok(published);
            }
        }
    }

    /// `None`: it took so long that the lock may be void.
    async fn publish_under(
        &mut self,
        lock: &guard::Lock<'_>,
        manifest: &Manifest,
    ) -> Result<Option<bool>, CheckpointError> {
        self.known = self.store.chunk_sizes().await?;
        let lost: BTreeMap<&str, Piece<'_>> = manifest
            .slices()
            .filter(|slice| self.known.get(slice.sha256) != Some(&slice.bytes))
            .map(|it| (it.sha256, Piece { path: it.path, at: it.at, bytes: it.bytes }))
            .collect();
        for (sha256, piece) in lost {
            let (hash, bytes) = self.read(piece).await?;
            if hash != sha256 {
                return Err(CheckpointError::Changed { name: self.name.to_owned() });
            }
            self.write(&hash, bytes).await?;
        }
        if !lock.is_fresh() {
            return Ok(None);
        }
        let key = keys::manifest(&manifest.name, &manifest.label, manifest.part);
        let bytes = Bytes::from(manifest.to_bytes());
        // Of a step that one start of the workers wrote twice, the first stays: the other workers'
        // parts may belong to that one.
        let created = self.store.objects.create(&key, bytes).await;
        created.map(Some).map_err(error::store(format!("publish `{}`", self.name)))
    }
}

/// The files that are uploaded.
struct Source<'a> {
    tree: &'a Tree,
    open: BTreeMap<&'a str, Arc<File>>,
}

impl<'a> Source<'a> {
    fn open(tree: &'a Tree, name: &str) -> Result<Self, CheckpointError> {
        let mut source = Self { tree, open: BTreeMap::new() };
        if tree.files.len() <= MAX_OPEN {
            for path in tree.files.keys() {
                let file = source.open_now(path, name)?;
                source.open.insert(path, Arc::new(file));
            }
        }
        Ok(source)
    }

    fn open_now(&self, path: &str, name: &str) -> Result<File, CheckpointError> {
        match self.tree.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(CheckpointError::Changed { name: name.to_owned() })
            }
            opened => opened.map_err(files("open", &self.tree.path(path))),
        }
    }

    /// Whether what was read is what was there at the look. Open files that were removed or
    /// replaced meanwhile are still what they were.
    fn is_unchanged(&self, candidate: &Candidate) -> bool {
        if self.open.is_empty() {
            return self.tree.is_unchanged();
        }
        let same = |before: &FileStat, now: &FileStat| {
            (before.bytes, before.modified, before.inode) == (now.bytes, now.modified, now.inode)
        };
        let is_same = self.open.iter().all(|(path, file)| {
            let now = file.metadata().map(|metadata| stat(&metadata));
            let before = self.tree.files.get(*path);
            before.zip(now.ok()).is_some_and(|(before, now)| same(before, &now))
        });
        // A folder to which a file was added was not complete.
        let has_more = candidate.is_folder
            && Tree::read(&self.tree.root)
                .is_ok_and(|now| now.files.keys().any(|path| !self.tree.files.contains_key(path)));
        is_same && !has_more
    }
}
