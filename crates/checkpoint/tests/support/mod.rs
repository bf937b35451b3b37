//! A store in memory that fails, tears, forgets and lies as it is told, and checkpoints to put into it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use trainyard_storage::StorageError;
use trainyard_storage::objects::{Answer, Object, Objects};

/// What a store may do wrong, each once in so many calls; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A request fails, and nothing was done.
    pub(crate) refused: u64,
    /// A request fails, and it was done all the same.
    pub(crate) answer_lost: u64,
    /// A write fails for want of space.
    pub(crate) full: u64,
    /// A removal, of which nobody hears any more, is done at the next [`Memory::arrive`].
    pub(crate) late: u64,
    /// A request stands still for long before it is done.
    pub(crate) slow: u64,
    /// No chunk is written by a keeper's background, as where a program leaves it no time.
    pub(crate) is_starved: bool,
    /// Chunks are written when this is over.
    pub(crate) holds_chunks: bool,
}

/// A strongly consistent store. Each call may stand still for a while, so that several processes mix.
#[derive(Debug)]
pub(crate) struct Memory {
    held: Mutex<BTreeMap<String, (Bytes, SystemTime)>>,
    faults: Mutex<Faults>,
    random: Mutex<u64>,
    /// Keys that are removed late.
    under_way: Mutex<Vec<String>>,
    pub(crate) writes: AtomicU64,
    /// Bytes of chunks that were read.
    pub(crate) sent: AtomicU64,
}

impl Memory {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            faults: Mutex::default(),
            random: Mutex::new(seed),
            under_way: Mutex::default(),
            writes: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        })
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    pub(crate) fn keys(&self, folder: &str) -> Vec<String> {
        let held = self.held.lock().unwrap();
        held.keys().filter(|key| key.starts_with(folder)).cloned().collect()
    }

    /// Changes one bit of an object, as a bad disk does.
    pub(crate) fn rot(&self, key: &str) {
        let mut held = self.held.lock().unwrap();
        let (bytes, _) = held.get_mut(key).unwrap();
        let mut changed = bytes.to_vec();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        *bytes = changed.into();
    }

    pub(crate) fn forget(&self, key: &str) {
        self.held.lock().unwrap().remove(key);
    }

    /// Removes what was to be removed late.
    pub(crate) fn arrive(&self) {
        for key in self.under_way.lock().unwrap().drain(..) {
            self.held.lock().unwrap().remove(&key);
        }
    }

    /// Makes everything look older than it is.
    pub(crate) fn age(&self, by: Duration) {
        for (_, modified) in self.held.lock().unwrap().values_mut() {
            *modified -= by;
        }
    }

    /// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    pub(crate) fn random(&self) -> u64 {
        let mut state = self.random.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn strikes(&self, once_in: u64) -> bool {
        once_in > 0 && self.random().is_multiple_of(once_in)
    }

    fn failed() -> StorageError {
        StorageError::Remote { uri: "memory".into(), attempts: 6, reason: "injected".into() }
    }

    /// Gives others the turn some times, fails if it must, and does it.
    async fn call<T>(
        &self,
        is_write: bool,
        work: impl FnOnce(&mut BTreeMap<String, (Bytes, SystemTime)>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let faults = *self.faults.lock().unwrap();
        let turns = if self.strikes(faults.slow) { 200 } else { 4 };
        for _ in 0..self.random() % turns {
            tokio::task::yield_now().await;
        }
        if self.strikes(faults.refused) {
            return Err(Self::failed());
        }
        if is_write && self.strikes(faults.full) {
            let folder = "memory".to_owned();
            return Err(StorageError::NoSpace {
                uri: folder.clone(),
                needed: 1,
                available: None,
                folder,
            });
        }
        let done = work(&mut self.held.lock().unwrap());
        self.writes.fetch_add(u64::from(is_write), Ordering::Relaxed);
        for _ in 0..self.random() % 4 {
            tokio::task::yield_now().await;
        }
        if is_write && self.strikes(faults.answer_lost) {
            return Err(Self::failed());
        }
        done
    }
}

impl Objects for Memory {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, ()> {
        async move {
            let is_background = std::thread::current().name() == Some("checkpoints");
            let is_starved = self.faults.lock().unwrap().is_starved;
            if is_starved && is_background && key.starts_with("chunks/") {
                std::future::pending::<()>().await;
            }
            while self.faults.lock().unwrap().holds_chunks && key.starts_with("chunks/") {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let insert = |held: &mut BTreeMap<String, (Bytes, SystemTime)>| {
                held.insert(key.to_owned(), (bytes, SystemTime::now()));
                Ok(())
            };
            self.call(true, insert).await
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        self.call(true, move |held| {
            if let Some((other, _)) = held.get(key) {
                return Ok(*other == bytes);
            }
            held.insert(key.to_owned(), (bytes, SystemTime::now()));
            Ok(true)
        })
        .boxed()
    }

    fn holds<'a>(&'a self, key: &'a str, bytes: Bytes) -> Answer<'a, bool> {
        self.call(false, move |held| Ok(held.get(key).is_some_and(|it| it.0 == bytes))).boxed()
    }

    fn get<'a>(&'a self, key: &'a str, most: u64) -> Answer<'a, Bytes> {
        self.call(false, move |held| match held.get(key) {
            None => Err(StorageError::NotFound { uri: key.to_owned() }),
            Some((bytes, _)) if bytes.len() as u64 > most => Err(StorageError::Object {
                uri: "memory".into(),
                key: key.to_owned(),
                reason: "too long".into(),
            }),
            Some((bytes, _)) => {
                let chunk = if key.starts_with("chunks/") { bytes.len() as u64 } else { 0 };
                self.sent.fetch_add(chunk, Ordering::Relaxed);
                Ok(bytes.clone())
            }
        })
        .boxed()
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<Object>> {
        self.call(false, move |held| {
            let below = held.iter().filter(|(key, _)| key.starts_with(&format!("{folder}/")));
            let objects = below.map(|(key, (bytes, modified))| Object {
                key: key.clone(),
                bytes: bytes.len() as u64,
                modified: *modified,
            });
            Ok(objects.collect())
        })
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        async move {
            let late = self.faults.lock().unwrap().late;
            if self.strikes(late) {
                self.under_way.lock().unwrap().push(key.to_owned());
                // Until its caller is killed, or no longer.
                for _ in 0..self.random() % 100 {
                    tokio::task::yield_now().await;
                }
                return Err(Self::failed());
            }
            let remove = |held: &mut BTreeMap<String, (Bytes, SystemTime)>| {
                held.remove(key);
                Ok(())
            };
            self.call(true, remove).await
        }
        .boxed()
    }

    fn visibility(&self) -> Duration {
        Duration::ZERO
    }

    fn uri(&self) -> &str {
        "memory"
    }
}

/// Bytes that differ everywhere.
pub(crate) fn content(bytes: usize, seed: u64) -> Vec<u8> {
    // Odd, and another one for each seed.
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// Writes a checkpoint as a careful program does: under another name first, with a marker.
pub(crate) fn write_step(folder: &Path, name: &str, files: &[(&str, Vec<u8>)]) {
    let staged = folder.join(format!("{name}.tmp"));
    let _ = fs::remove_dir_all(&staged);
    for (path, bytes) in files {
        let path = staged.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(staged.join("_SUCCESS"), "").unwrap();
    let target = folder.join(name);
    let _ = fs::remove_dir_all(&target);
    fs::rename(staged, target).unwrap();
}

/// All files below a folder and what they hold.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A folder in memory where there is one: what waits for the disk takes minutes otherwise.
pub(crate) fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
