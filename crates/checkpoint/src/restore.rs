//! Bringing a checkpoint from the store into a folder.
//!
//! Files are written beside their place, compared chunk by chunk, put on the disk, and get their names
//! by renaming: a checkpoint that is visible is whole. An agent that restores for a program does not wait
//! for a disk of its own machine ([`Until`]), and leaves what it wrote in the page cache, where the program
//! finds it however slow the disk is. Who waits for the disk writes past that cache.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use rustix::fs::FlockOperation;
use trainyard_storage::{read_part, write_past_the_cache};

use crate::candidate::STATE;
use crate::error::{CheckpointError, files};
use crate::guard::unique;
use crate::lazily::lazily;
use crate::manifest::SavedFile;
use crate::recognise::Layout;
use crate::share::{Brought, Hash, Offering, Session, Sharing};
use crate::store::{Step, StepId, Store};
use crate::tree::Tree;
use crate::{chunk, error, keys};

/// Folders of restores that are under way.
const STAGING: &str = ".trainyard-restore-";
/// Files that tell a reader that the others are there: they get their names last.
const LAST: [&str; 5] =
    [".metadata", "trainer_state.json", "commit_success.txt", "_CHECKPOINT_METADATA", STATE];

/// A checkpoint that is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub id: StepId,
    /// The step that its name tells.
    pub step: Option<u64>,
    /// What the program gives to its framework: the checkpoint's folder or file, TensorFlow's prefix,
    /// or the folder that its files are in.
    pub path: PathBuf,
    pub bytes: u64,
    /// Nothing, if it was in its place already.
    pub brought: Brought,
    /// Newer ones that cannot be used, and why.
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub name: String,
    pub id: StepId,
    pub reason: String,
}

/// What a restore waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The disk has it, whatever happens to the machine then.
    OnDisk,
    /// It can be read, if the disk is one of this machine, from which nothing else is heard while bytes are
    /// written. For who compares what is there before it is used: what a machine that loses its power
    /// leaves is restored once more.
    Readable,
}

impl Store {
    /// Restores the newest checkpoint that is good, below `to`. What is found damaged is passed over
    /// and told. `part` is the worker's own, for checkpoints in which every worker has a file of the
    /// same name.
    ///
    /// `None`: there is no complete checkpoint at all.
    pub async fn restore_newest(
        &self,
        to: &Path,
        part: Option<u32>,
    ) -> Result<Option<Restored>, CheckpointError> {
        self.restore_newest_with(to, part, None, Until::OnDisk).await
    }

    pub(crate) async fn restore_newest_with(
        &self,
        to: &Path,
        part: Option<u32>,
        sharing: Option<&Sharing>,
        until: Until,
    ) -> Result<Option<Restored>, CheckpointError> {
        let catalogue = self.catalogue().await?;
        let mut skipped = Vec::new();
        for step in catalogue.complete() {
            match self.restore_with(step, to, part, sharing, until).await {
                Ok(restored) => return Ok(Some(Restored { skipped, ..restored })),
                Err(CheckpointError::Corrupt { name, reason }) => {
                    tracing::warn!(
                        name,
                        reason,
                        "a checkpoint cannot be used; trying the one before"
                    );
                    skipped.push(Skipped { name, id: step.id.clone(), reason });
                }
                Err(error) => return Err(error),
            }
        }
        if skipped.is_empty() {
            return Ok(None);
        }
        Err(CheckpointError::NoneGood { uri: self.uri().to_owned(), skipped })
    }

    /// Restores one checkpoint below `to`: as the folder of its name, or as files straight in `to`.
    /// Whatever has its name there is replaced, unless it is the same already.
    pub async fn restore(
        &self,
        step: &Step,
        to: &Path,
        part: Option<u32>,
    ) -> Result<Restored, CheckpointError> {
        self.restore_with(step, to, part, None, Until::OnDisk).await
    }

    pub(crate) async fn restore_with(
        &self,
        step: &Step,
        to: &Path,
        part: Option<u32>,
        sharing: Option<&Sharing>,
        until: Until,
    ) -> Result<Restored, CheckpointError> {
        let wanted = Wanted::of(step, part)?;
        let bytes = wanted.files.values().fold(0u64, |sum, it| sum.saturating_add(it.0.bytes));
        let path = wanted.path(to);
        let (checked, place) = (wanted.clone(), to.to_owned());
        let brought = if chunk::blocking(move || checked.is_there(&place)).await {
            if let Some(sharing) = sharing {
                wanted.offer_what_is_there(sharing, to);
            }
            Brought::default()
        } else {
            self.bring(&wanted, to, sharing, until).await?
        };
        let (id, skipped) = (step.id.clone(), Vec::new());
        Ok(Restored { id, step: step.step(), path, bytes, brought, skipped })
    }

    async fn bring(
        &self,
        wanted: &Wanted,
        to: &Path,
        sharing: Option<&Sharing>,
        until: Until,
    ) -> Result<Brought, CheckpointError> {
        let (place, shape) = (to.to_owned(), wanted.clone());
        let staging = chunk::blocking(move || Staging::make(&place, &shape)).await?;
        let staging = &staging;
        let syncs = until == Until::OnDisk || !is_of_this_machine(&staging.new);
        let goes_past = until == Until::OnDisk;
        let session = &Session::begin(sharing).await;
        let mut chunks = wanted.chunks();
        chunks.sort_by_cached_key(|chunk| chunk.hash.map(|hash| session.order(hash)));
        let offering = sharing.map(|it| {
            let hashes = chunks.iter().filter_map(|chunk| chunk.hash).collect();
            it.offer.begin(hashes, vec![staging.new.clone(), to.to_owned()])
        });
        let told = offering.as_ref();
        let writes = chunks.iter().map(|needed| {
            async move {
                let Needed { sha256, bytes, is_shared, .. } = *needed;
                let chunk = session.chunk(self, sha256, bytes, is_shared).await?;
                let chunk = chunk.map_err(|reason| {
                    let (name, path) = (wanted.name.clone(), needed.path());
                    CheckpointError::Corrupt { name, reason: format!("`{path}`: {reason}") }
                })?;
                let targets: Vec<(PathBuf, u64)> = needed
                    .places
                    .iter()
                    .map(|(path, at)| (staging.file(wanted, path), *at))
                    .collect();
                chunk::blocking(move || {
                    targets.iter().try_for_each(|(target, at)| {
                        let file = OpenOptions::new().write(true).open(target);
                        file.and_then(|file| {
                            if goes_past && write_past_the_cache(&file, &chunk, *at)? {
                                return Ok(());
                            }
                            file.write_all_at(&chunk, *at)?;
                            if syncs {
                                begin_writing(&file, *at, chunk.len());
                            }
                            Ok(())
                        })
                        .map_err(files("write", target))
                    })
                })
                .await?;
                if let Some(offering) = told {
                    needed.offer(wanted, offering);
                }
                Ok(())
            }
            .boxed()
        });
        lazily(writes)
            .buffer_unordered(self.tuning.parallel)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        let written = wanted.files.keys().filter(|_| syncs).map(|path| {
            let path = staging.file(wanted, path);
            chunk::blocking(move || {
                File::open(&path).and_then(|it| it.sync_all()).map_err(files("write", &path))
            })
            .boxed()
        });
        lazily(written)
            .buffer_unordered(self.tuning.parallel)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        let (new, old, place) = (staging.new.clone(), staging.old.clone(), to.to_owned());
        chunk::blocking(move || put_in_place(&new, &old, &place, syncs)).await?;
        if let Some(offering) = offering {
            offering.finish();
        }
        Ok(session.brought())
    }

    /// What all workers of one start restore: the first that asks decides, with what it has restored
    /// itself; the others get its answer. `None` stands for no checkpoint.
    pub(crate) async fn decide(
        &self,
        attempt: &str,
        choice: Option<&StepId>,
    ) -> Result<Option<StepId>, CheckpointError> {
        let key = keys::start(attempt);
        let text = serde_json::to_vec(&choice.map(|id| (&id.name, &id.label)));
        let text = text.expect("texts are JSON");
        let created = self.objects.create(&key, text.into()).await;
        if created.map_err(error::store("note what this start restores"))? {
            return Ok(choice.cloned());
        }
        Ok(self.decided(attempt).await?.flatten())
    }

    /// What was decided for a start, if anything was.
    pub(crate) async fn decided(
        &self,
        attempt: &str,
    ) -> Result<Option<Option<StepId>>, CheckpointError> {
        const MAX_BYTES: u64 = 64 << 10;
        let text = match self.objects.get(&keys::start(attempt), MAX_BYTES).await {
            Ok(text) => text,
            Err(trainyard_storage::StorageError::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(error::store("read what this start restores")(source)),
        };
        let id: Option<(String, String)> =
            serde_json::from_slice(&text).map_err(|error| CheckpointError::Corrupt {
                name: attempt.to_owned(),
                reason: format!("what its workers restore cannot be read: {error}"),
            })?;
        Ok(Some(id.map(|(name, label)| StepId { name, label })))
    }
}

/// The files of a checkpoint that one worker needs.
#[derive(Debug, Clone)]
struct Wanted {
    name: String,
    is_folder: bool,
    layout: Layout,
    /// With the size of their chunks.
    files: BTreeMap<String, (SavedFile, u64)>,
    /// Those that every worker has another one of: nobody else needs them.
    own: BTreeSet<String>,
    empty_folders: BTreeSet<String>,
}

/// A chunk, and all places that it belongs to.
struct Needed<'a> {
    sha256: &'a str,
    hash: Option<Hash>,
    bytes: u64,
    /// Path and offset. Never empty.
    places: Vec<(&'a str, u64)>,
    is_shared: bool,
}

impl Needed<'_> {
    fn path(&self) -> String {
        self.places.first().map(|(path, _)| (*path).to_owned()).unwrap_or_default()
    }

    /// Tells the other workers that it is there.
    fn offer(&self, wanted: &Wanted, offering: &Offering<'_>) {
        if let (Some(hash), Some((path, at))) = (self.hash, self.places.first()) {
            offering.has(hash, &wanted.relative(path), *at, self.bytes);
        }
    }
}

impl Wanted {
    /// Puts the parts together.
    fn of(step: &Step, part: Option<u32>) -> Result<Self, CheckpointError> {
        let corrupt =
            |reason: String| CheckpointError::Corrupt { name: step.id.name.clone(), reason };
        let (there, of) = step.parts();
        let Some(first) = step.parts.values().next().filter(|_| step.is_complete()) else {
            return Err(corrupt(format!("{there} of {of} workers have saved their part")));
        };
        let mut wanted = Self {
            name: step.id.name.clone(),
            is_folder: first.is_folder,
            layout: first.layout,
            files: BTreeMap::new(),
            own: BTreeSet::new(),
            empty_folders: BTreeSet::new(),
        };
        for (index, manifest) in &step.parts {
            if manifest.is_folder != wanted.is_folder {
                return Err(corrupt("its parts are a folder and files".to_owned()));
            }
            for (path, file) in &manifest.files {
                let entry = (file.clone(), manifest.chunk_bytes);
                match wanted.files.get(path) {
                    Some(other) if *other == entry => {}
                    None => drop(wanted.files.insert(path.clone(), entry)),
                    // Each has its own: the worker's own counts.
                    Some(_) => {
                        let Some(part) = part.filter(|part| *part < of) else {
                            let (name, path) = (step.id.name.clone(), path.clone());
                            return Err(CheckpointError::WhichPart { name, path, of });
                        };
                        wanted.own.insert(path.clone());
                        if part >= *index {
                            wanted.files.insert(path.clone(), entry);
                        }
                    }
                }
            }
            wanted.empty_folders.extend(manifest.empty_folders.iter().cloned());
        }
        for path in wanted.files.keys().chain(&wanted.empty_folders) {
            let mut above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            if let Some(file) = above.find(|it| wanted.files.contains_key(*it)) {
                return Err(corrupt(format!("`{file}` is a file and a folder at once")));
            }
        }
        wanted.empty_folders.retain(|folder| !wanted.files.contains_key(folder));
        Ok(wanted)
    }

    fn path(&self, to: &Path) -> PathBuf {
        if self.is_folder
            || self.layout == Layout::TensorFlow && !self.files.contains_key(&self.name)
        {
            return to.join(&self.name);
        }
        match self.files.keys().next() {
            Some(file) if self.files.len() == 1 => to.join(file),
            _ => to.to_owned(),
        }
    }

    /// Each chunk once, in the order of files.
    fn chunks(&self) -> Vec<Needed<'_>> {
        let mut chunks: Vec<Needed<'_>> = Vec::new();
        let mut known: HashMap<(&str, u64), usize> = HashMap::new();
        for (path, (file, chunk_bytes)) in &self.files {
            let is_shared = !self.own.contains(path);
            let places = (0u64..).map(|n| n.saturating_mul(*chunk_bytes));
            for (sha256, at) in file.chunks.iter().zip(places) {
                let bytes = file.bytes.saturating_sub(at).min(*chunk_bytes);
                let next = chunks.len();
                match chunks.get_mut(*known.entry((sha256, bytes)).or_insert(next)) {
                    Some(chunk) => {
                        chunk.places.push((path, at));
                        chunk.is_shared |= is_shared;
                    }
                    None => chunks.push(Needed {
                        sha256,
                        hash: Hash::parse(sha256),
                        bytes,
                        places: vec![(path, at)],
                        is_shared,
                    }),
                }
            }
        }
        chunks
    }

    /// What is whole on this worker's disk is for the others too.
    fn offer_what_is_there(&self, sharing: &Sharing, to: &Path) {
        let chunks = self.chunks();
        let hashes = chunks.iter().filter_map(|chunk| chunk.hash).collect();
        let offering = sharing.offer.begin(hashes, vec![to.to_owned()]);
        chunks.iter().for_each(|chunk| chunk.offer(self, &offering));
        offering.finish();
    }

    /// Where a file is in the folder of checkpoints.
    fn relative(&self, path: &str) -> String {
        if self.is_folder { format!("{}/{path}", self.name) } else { path.to_owned() }
    }

    /// Whether exactly this is in its place already, such as on a disk that outlived a restart.
    fn is_there(&self, to: &Path) -> bool {
        let root = if self.is_folder { to.join(&self.name) } else { to.to_owned() };
        if self.is_folder
            && !Tree::read(&root).is_ok_and(|tree| {
                tree.files.keys().eq(self.files.keys())
                    && self.empty_folders.iter().all(|it| tree.empty_folders.contains(it))
            })
        {
            return false;
        }
        self.files.iter().all(|(path, (file, chunk_bytes))| {
            File::open(root.join(path)).is_ok_and(|held| holds(&held, file, *chunk_bytes))
        })
    }

    /// TensorFlow finds its newest checkpoint by a file that was perhaps not saved with this one.
    fn state(&self) -> Option<String> {
        let is_needed = self.layout == Layout::TensorFlow
            && !self.is_folder
            && !self.files.contains_key(STATE)
            && !self.name.contains(['"', '\\', '\n']);
        let name = &self.name;
        is_needed.then(|| {
            format!("model_checkpoint_path: \"{name}\"\nall_model_checkpoint_paths: \"{name}\"\n")
        })
    }
}

fn holds(held: &File, file: &SavedFile, chunk_bytes: u64) -> bool {
    if !held.metadata().is_ok_and(|metadata| metadata.len() == file.bytes) {
        return false;
    }
    let places = (0u64..).map(|n| n.saturating_mul(chunk_bytes));
    file.chunks.iter().zip(places).all(|(sha256, at)| {
        read_part(held, at, chunk_bytes).is_ok_and(|bytes| chunk::sha256(&bytes) == *sha256)
    })
}

/// Lets the disk begin to write a part of a file, while more is fetched. What is not yet on the disk stays
/// in the page cache, from which the program then reads it.
fn begin_writing(file: &File, at: u64, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        let length = std::num::NonZeroU64::new(bytes as u64);
        let _ = rustix::fs::fadvise(file, at, length, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, at, bytes);
}

/// Whether a folder is on a disk of this machine, or in its memory. A file server may refuse bytes that were
/// taken already, which is heard when they are synced.
fn is_of_this_machine(folder: &Path) -> bool {
    /// ext4 and those before it, xfs, btrfs, overlayfs and tmpfs (`linux/magic.h`).
    #[cfg(target_os = "linux")]
    const LOCAL: [rustix::fs::FsWord; 5] =
        [0xEF53, 0x5846_5342, 0x9123_683E, 0x794C_7630, 0x0102_1994];
    #[cfg(target_os = "linux")]
    if let Ok(stats) = rustix::fs::statfs(folder) {
        return LOCAL.contains(&stats.f_type);
    }
    let _ = folder;
    false
}

/// A folder that goes when it is dropped. Its lock tells others that somebody works in it.
struct Staging {
    root: PathBuf,
    new: PathBuf,
    old: PathBuf,
    _lock: File,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            tracing::debug!(%error, path = %self.root.display(), "a folder stays until the next restore");
        }
    }
}

impl Staging {
    /// Makes the folder, with all files in their lengths, so that a full disk shows at once.
    fn make(to: &Path, wanted: &Wanted) -> Result<Self, CheckpointError> {
        fs::create_dir_all(to).map_err(files("create", to))?;
        remove_leftovers(to);
        let root = to.join(format!("{STAGING}{}", unique()));
        fs::create_dir(&root).map_err(files("create", &root))?;
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(files("create", &lock_path))?;
        // Where locks do not work, nobody takes the folder for a leftover either.
        let _ = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        let (new, old) = (root.join("new"), root.join("old"));
        let staging = Self { root, new, old, _lock: lock };
        for folder in [&staging.new, &staging.old] {
            fs::create_dir(folder).map_err(files("create", folder))?;
        }
        for path in &wanted.empty_folders {
            let path = staging.file(wanted, path);
            fs::create_dir_all(&path).map_err(files("create", &path))?;
        }
        for (path, (file, _)) in &wanted.files {
            let path = staging.file(wanted, path);
            let parent = path.parent().unwrap_or(&staging.new);
            fs::create_dir_all(parent).map_err(files("create", parent))?;
            let made = File::create_new(&path).and_then(|made| {
                if file.bytes > 0 {
                    trainyard_storage::reserve(&made, file.bytes)?;
                }
                Ok(())
            });
            made.map_err(files("reserve room for", &path))?;
        }
        if let Some(state) = wanted.state() {
            let path = staging.new.join(STATE);
            fs::write(&path, state).map_err(files("write", &path))?;
        }
        Ok(staging)
    }

    fn file(&self, wanted: &Wanted, path: &str) -> PathBuf {
        self.new.join(wanted.relative(path))
    }
}

/// Removes what killed restores left: folders whose lock nobody holds.
fn remove_leftovers(to: &Path) {
    let Ok(entries) = fs::read_dir(to) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(STAGING) {
            continue;
        }
        let lock = File::open(entry.path().join("lock"));
        let is_free = lock.as_ref().is_ok_and(|lock| {
            rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        });
        if is_free && let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::debug!(%error, path = %entry.path().display(), "a leftover stays");
        }
    }
}

/// Gives everything in `new` its name in `to`; what had it goes to `old`.
fn put_in_place(new: &Path, old: &Path, to: &Path, syncs: bool) -> Result<(), CheckpointError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(new).map_err(files("read", new))? {
        names.push(entry.map_err(files("read", new))?.file_name());
    }
    let order = |name: &std::ffi::OsString| {
        let text = name.to_string_lossy();
        (LAST.contains(&text.as_ref()) || text.ends_with(".index"), name.clone())
    };
    names.sort_by_key(order);
    for name in names {
        let (from, target) = (new.join(&name), to.join(&name));
        if syncs {
            sync_folders(&from).map_err(files("write", &from))?;
        }
        // A file is replaced in one step; a folder can only make room.
        if fs::symlink_metadata(&target).is_ok_and(|it| it.is_dir()) || from.is_dir() {
            match fs::rename(&target, old.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(files("replace", &target)(error));
                }
                _ => {}
            }
        }
        match fs::rename(&from, &target) {
            // Another worker on the same volume was first, with the same checkpoint.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            renamed => renamed.map_err(files("create", &target))?,
        }
    }
    if syncs {
        File::open(to).and_then(|it| it.sync_all()).map_err(files("write", to))?;
    }
    Ok(())
}

/// Puts names of a folder and all below it on the disk.
fn sync_folders(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(path)?.sync_all()
}
