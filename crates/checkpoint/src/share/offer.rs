//! What this worker has, and is about to have, for the other workers.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::hash::Hash;

/// Chunks of the checkpoint that this worker restores, or has restored. Only what was compared with
/// its hash is in it; what becomes of the files later, whoever gets a chunk sees by comparing again.
#[derive(Debug)]
pub struct Offer {
    state: Mutex<State>,
    /// Bytes that it has got so far. Never less than before.
    gained: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// What it will have; none while it does not know.
    wanted: Option<HashSet<Hash>>,
    held: HashMap<Hash, (Arc<str>, u64, u64)>,
    /// Folders in one of which the files are. They move once, when all is there.
    roots: Vec<PathBuf>,
}

/// What a worker says of one chunk.
#[derive(Debug)]
pub enum Look {
    Held(Held),
    /// It will have it, or does not know yet.
    Pending,
    /// It has not, and will not.
    Unknown,
}

/// Where a chunk is.
#[derive(Debug, Clone)]
pub struct Held {
    roots: Vec<PathBuf>,
    path: Arc<str>,
    pub at: u64,
    pub bytes: u64,
}

impl Held {
    /// The file that it is in. Blocks.
    pub fn open(&self) -> io::Result<File> {
        let mut opened = Err(io::ErrorKind::NotFound.into());
        for root in &self.roots {
            opened = File::open(root.join(&*self.path));
            if opened.is_ok() {
                break;
            }
        }
        opened
    }
}

impl Default for Offer {
    fn default() -> Self {
        Self { state: Mutex::default(), gained: watch::Sender::new(0) }
    }
}

impl Offer {
    pub fn look(&self, hash: Hash) -> Look {
        let state = self.state();
        match (state.held.get(&hash), &state.wanted) {
            (Some((path, at, bytes)), _) => Look::Held(Held {
                roots: state.roots.clone(),
                path: Arc::clone(path),
                at: *at,
                bytes: *bytes,
            }),
            (None, Some(wanted)) if !wanted.contains(&hash) => Look::Unknown,
            (None, _) => Look::Pending,
        }
    }

    /// All that it has at the moment.
    pub fn held(&self) -> Vec<Hash> {
        self.state().held.keys().copied().collect()
    }

    /// Changes with each chunk that it gets: the bytes of all so far.
    pub fn gained(&self) -> watch::Receiver<u64> {
        self.gained.subscribe()
    }

    /// A restore begins, whose files are in the first of the folders until they are in the last.
    /// What an earlier one has left is not offered any more, nor is this once it is dropped unfinished.
    pub(crate) fn begin(&self, wanted: HashSet<Hash>, roots: Vec<PathBuf>) -> Offering<'_> {
        *self.state() = State { wanted: Some(wanted), held: HashMap::new(), roots };
        Offering { offer: self, is_finished: false }
    }

    /// Nothing is to be restored, so nobody needs to wait.
    pub(crate) fn nothing(&self) {
        *self.state() = State { wanted: Some(HashSet::new()), ..State::default() };
        self.gained.send_modify(|_| {});
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An offer that grows.
pub(crate) struct Offering<'a> {
    offer: &'a Offer,
    is_finished: bool,
}

impl Offering<'_> {
    pub(crate) fn has(&self, hash: Hash, path: &str, at: u64, bytes: u64) {
        self.offer.state().held.insert(hash, (path.into(), at, bytes));
        self.offer.gained.send_modify(|sum| *sum = sum.saturating_add(bytes));
    }

    /// All is there, and in its place.
    pub(crate) fn finish(mut self) {
        self.is_finished = true;
        let mut state = self.offer.state();
        if state.roots.len() > 1 {
            state.roots.drain(..1);
        }
    }
}

impl Drop for Offering<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            *self.offer.state() = State::default();
            self.offer.gained.send_modify(|_| {});
        }
    }
}

#[test]
fn what_is_offered() {
    let (offer, folder) = (Offer::default(), tempfile::tempdir().unwrap());
    let hash = |byte| Hash([byte; 32]);
    assert!(matches!(offer.look(hash(1)), Look::Pending), "it does not know yet");
    let (staged, place) = (folder.path().join("staged"), folder.path().join("place"));
    std::fs::create_dir(&staged).unwrap();
    std::fs::write(staged.join("a"), "abc").unwrap();
    let begin = || offer.begin([hash(1), hash(2)].into(), vec![staged.clone(), place.clone()]);
    let offering = begin();
    offering.has(hash(1), "a", 0, 3);
    assert!(matches!(offer.look(hash(2)), Look::Pending));
    assert!(matches!(offer.look(hash(3)), Look::Unknown));
    let Look::Held(held) = offer.look(hash(1)) else { panic!("it has it") };
    assert_eq!((held.at, held.bytes, *offer.gained().borrow()), (0, 3, 3));
    assert!(held.open().is_ok());
    // Also where the files have moved since it looked.
    std::fs::rename(&staged, &place).unwrap();
    assert!(held.open().is_ok());
    offering.finish();
    assert_eq!(offer.held(), [hash(1)]);
    drop(begin());
    assert!(offer.held().is_empty() && matches!(offer.look(hash(3)), Look::Pending));
    offer.nothing();
    assert!(matches!(offer.look(hash(1)), Look::Unknown));
}
