//! Chunks from other workers before the store: each is fetched from there about once, whatever the
//! number of workers.
//!
//! A worker first fetches the chunks that were dealt to it ([`deal`]) from the store, and then asks
//! for the others whom they were dealt to, each worker in an order of its own, so that all send as
//! much and none is asked by all at once. Who has just come asks some others what they have already.
//! A peer that is missing, slow, silent or wrong costs a bounded time, once; then the next one is
//! asked, and in the end the store. Whoever a chunk comes from, it is compared with its hash.
//!
//! Who waits for whom makes no circle: for one chunk, workers wait only for those that come before
//! them in its order.

mod deal;
mod hash;
mod offer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep, timeout};

pub use hash::Hash;
pub(crate) use offer::Offering;
pub use offer::{Held, Look, Offer};

use crate::chunk;
use crate::error::CheckpointError;
use crate::store::Store;

/// Others that a worker asks what they have.
const ACQUAINTANCES: usize = 8;
/// Workers that are said to have a chunk, and are asked for it.
const HOLDERS: usize = 2;
/// Before a peer that is not there is looked for again.
const PAUSE: Duration = Duration::from_millis(250);
/// A transfer may take so many times what the store takes for as much.
const SLOWER_THAN_STORE: f64 = 4.0;
/// What a transfer may take at least, and at most.
const TRANSFER: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));
/// For who does not keep to the times that it is given.
const MARGIN: Duration = Duration::from_secs(1);

/// What another worker's answer is, in time.
pub type Asked<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// How other workers are reached. What they send is not believed.
pub trait Peers: fmt::Debug + Send + Sync {
    /// Asks a worker for a chunk of so many bytes.
    fn chunk(&self, worker: u32, hash: Hash, bytes: u64, terms: Terms) -> Asked<'_, Bytes>;

    /// Asks a worker which chunks it has.
    fn held(&self, worker: u32, terms: Terms) -> Asked<'_, Vec<Hash>>;
}

/// How long a worker has for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// To be reached.
    pub connect: Duration,
    /// To get the chunk itself; zero where it is to be had at once or not at all.
    pub wait: Duration,
    /// To be heard of, while it waits.
    pub silence: Duration,
    /// To send it.
    pub transfer: Duration,
}

/// Why a worker did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has not got it, and is not about to.
    NotHeld,
    /// Nobody is there, perhaps not yet.
    Absent,
    /// It did not get it in time.
    Late,
    /// It was silent, too slow, gone, or spoke nonsense.
    Failed(String),
}

/// What one restore spends on peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Peers that are not there are waited for until this time of a restore, and looked for again
    /// when it has passed once more.
    pub absent: Duration,
    /// A peer may take so long to get a chunk that was dealt to it.
    pub late: Duration,
    /// A peer that waits is heard of within this time.
    pub silence: Duration,
    /// Time that has brought nothing, in all; after that the store alone is asked.
    pub lost: Duration,
}

impl Default for Patience {
    /// Pods of one start begin within some seconds of each other, where their nodes have the image;
    /// to wait for longer costs more than to fetch what was dealt to the others.
    fn default() -> Self {
        Self {
            absent: Duration::from_secs(10),
            late: Duration::from_secs(15),
            silence: Duration::from_secs(5),
            lost: Duration::from_secs(30),
        }
    }
}

/// One worker among those that share what they restore.
#[derive(Debug)]
pub struct Sharing {
    pub own: u32,
    pub workers: u32,
    pub peers: Arc<dyn Peers>,
    /// What this worker gives to the others.
    pub offer: Arc<Offer>,
    pub patience: Patience,
}

/// What is thought of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Absent,
    /// It gives what it has, and is not waited for.
    Late,
    Bad,
}

/// Where the bytes of a restore came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    pub from_store: u64,
    pub from_peers: u64,
    /// How many peers gave some.
    pub peers: usize,
}

/// One restore.
pub(crate) struct Session<'a> {
    sharing: Option<&'a Sharing>,
    began: Instant,
    standings: Mutex<BTreeMap<u32, (Standing, Instant)>>,
    givers: Mutex<BTreeSet<u32>>,
    holders: HashMap<Hash, Vec<u32>>,
    /// Seconds that the store takes for a byte.
    pace: Mutex<Option<f64>>,
    lost: Mutex<Lost>,
    from_store: AtomicU64,
    from_peers: AtomicU64,
}

/// Time that has brought nothing; what overlaps counts once.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    total: Duration,
    until: Option<Instant>,
}

impl Lost {
    fn add(&mut self, from: Instant, until: Instant) {
        let from = self.until.map_or(from, |last| last.max(from));
        self.total = self.total.saturating_add(until.saturating_duration_since(from));
        self.until = Some(self.until.map_or(until, |last| last.max(until)));
    }
}

impl<'a> Session<'a> {
    /// Asks some of the others what they have.
    pub(crate) async fn begin(sharing: Option<&'a Sharing>) -> Self {
        let mut session = Self {
            sharing,
            began: Instant::now(),
            standings: Mutex::default(),
            givers: Mutex::default(),
            holders: HashMap::new(),
            pace: Mutex::default(),
            lost: Mutex::default(),
            from_store: AtomicU64::new(0),
            from_peers: AtomicU64::new(0),
        };
        if let Some(sharing) = sharing {
            session.holders = sharing.holders().await;
        }
        session
    }

    /// The order to fetch chunks in: first what was dealt to this worker, so that it is there for the
    /// others, and last the others' in an order that no one else has.
    pub(crate) fn order(&self, hash: Hash) -> (bool, [u8; 8]) {
        let Some(sharing) = self.sharing else { return (false, [0; 8]) };
        if self.dealt(hash).first() == Some(&sharing.own) {
            return (false, [0; 8]);
        }
        (true, deal::weight(&hash.0, sharing.own).to_be_bytes())
    }

    pub(crate) fn brought(&self) -> Brought {
        Brought {
            from_store: self.from_store.load(Ordering::Relaxed),
            from_peers: self.from_peers.load(Ordering::Relaxed),
            peers: guard(&self.givers).len(),
        }
    }

    /// Gets a chunk from a peer, or else from the store. `Ok(Err)`: the store holds something else.
    /// `is_shared`: the others need it too.
    pub(crate) async fn chunk(
        &self,
        store: &Store,
        sha256: &str,
        bytes: u64,
        is_shared: bool,
    ) -> Result<Result<Bytes, String>, CheckpointError> {
        let hash = Hash::parse(sha256);
        if let Some(hash) = hash.filter(|_| is_shared)
            && let Some(chunk) = self.ask_peers(hash, bytes).await
        {
            return Ok(Ok(chunk));
        }
        let asked = Instant::now();
        let read = store.chunk(sha256, bytes).await;
        match (&read, hash) {
            (Ok(Ok(_)), _) => {
                self.from_store.fetch_add(bytes, Ordering::Relaxed);
                let pace = asked.elapsed().as_secs_f64() / bytes.max(1) as f64;
                let mut known = guard(&self.pace);
                *known = Some(known.map_or(pace, |known| known * 0.75 + pace * 0.25));
            }
            // What the store does not give any more, somebody may have all the same.
            (_, Some(hash)) if is_shared => {
                if let Some(chunk) = self.ask_anybody(hash, bytes).await {
                    return Ok(Ok(chunk));
                }
            }
            _ => {}
        }
        read
    }

    /// The first workers for a chunk.
    fn dealt(&self, hash: Hash) -> Vec<u32> {
        self.sharing.map(|it| deal::first(hash, it.workers)).unwrap_or_default()
    }

    async fn ask_peers(&self, hash: Hash, bytes: u64) -> Option<Bytes> {
        let sharing = self.sharing?;
        for worker in self.dealt(hash) {
            if worker == sharing.own {
                break;
            }
            let wait = sharing.patience.late;
            if let Some(chunk) = self.ask(sharing, worker, hash, bytes, wait).await {
                return Some(chunk);
            }
        }
        let holders = self.holders.get(&hash).cloned().unwrap_or_default();
        for worker in deal::spread(hash, sharing.own, holders, HOLDERS) {
            if let Some(chunk) = self.ask(sharing, worker, hash, bytes, Duration::ZERO).await {
                return Some(chunk);
            }
        }
        None
    }

    async fn ask_anybody(&self, hash: Hash, bytes: u64) -> Option<Bytes> {
        let sharing = self.sharing?;
        for worker in deal::acquaintances(sharing.own, sharing.workers, ACQUAINTANCES) {
            if let Some(chunk) = self.ask(sharing, worker, hash, bytes, Duration::ZERO).await {
                return Some(chunk);
            }
        }
        None
    }

    /// Asks one peer; none if there is nothing to be had, and why is remembered.
    async fn ask(
        &self,
        sharing: &Sharing,
        worker: u32,
        hash: Hash,
        bytes: u64,
        wait: Duration,
    ) -> Option<Bytes> {
        let patience = sharing.patience;
        // Who is said to have it is asked rather than that somebody is looked for.
        let looks_for_it = !wait.is_zero() && !self.holders.contains_key(&hash);
        loop {
            let standing = guard(&self.standings).get(&worker).copied();
            let is_asked = match standing {
                None => true,
                Some((Standing::Late, _)) => wait.is_zero(),
                Some((Standing::Absent, since)) => since.elapsed() >= patience.absent,
                Some((Standing::Bad, _)) => false,
            };
            if !is_asked || guard(&self.lost).total > patience.lost {
                return None;
            }
            let asked = Instant::now();
            let terms = sharing.terms(wait, self.transfer(bytes));
            let refusal = match sharing.get(worker, hash, bytes, terms).await {
                Ok(chunk) => {
                    self.from_peers.fetch_add(bytes, Ordering::Relaxed);
                    guard(&self.givers).insert(worker);
                    return Some(chunk);
                }
                Err(refusal) => refusal,
            };
            let has_time = self.began.elapsed() < patience.absent;
            let standing = match &refusal {
                Refusal::NotHeld => None,
                Refusal::Absent if looks_for_it && has_time => {
                    sleep(PAUSE).await;
                    guard(&self.lost).add(asked, Instant::now());
                    continue;
                }
                Refusal::Absent => Some(Standing::Absent),
                Refusal::Late if wait.is_zero() => None,
                Refusal::Late => Some(Standing::Late),
                Refusal::Failed(_) => Some(Standing::Bad),
            };
            guard(&self.lost).add(asked, Instant::now());
            if let Some(standing) = standing
                && !self.note(worker, standing)
            {
                let reason = match &refusal {
                    Refusal::Failed(why) => why.as_str(),
                    Refusal::Absent => "it does not answer",
                    Refusal::Late | Refusal::NotHeld => "it takes too long",
                };
                tracing::info!(worker, reason, "chunks of this worker come from elsewhere");
            }
            return None;
        }
    }

    /// Whether it was known already.
    fn note(&self, worker: u32, standing: Standing) -> bool {
        let earlier = guard(&self.standings).insert(worker, (standing, Instant::now()));
        earlier.is_some_and(|(earlier, _)| earlier == standing)
    }

    /// What a peer may take to send so much.
    fn transfer(&self, bytes: u64) -> Duration {
        let (least, most) = TRANSFER;
        let Some(pace) = *guard(&self.pace) else { return most };
        let seconds = pace * bytes as f64 * SLOWER_THAN_STORE;
        Duration::try_from_secs_f64(seconds).unwrap_or(most).clamp(least, most)
    }
}

impl Sharing {
    fn terms(&self, wait: Duration, transfer: Duration) -> Terms {
        let silence = self.patience.silence;
        Terms { connect: silence, wait, silence, transfer }
    }

    /// A chunk that is what it should be.
    async fn get(
        &self,
        worker: u32,
        hash: Hash,
        bytes: u64,
        terms: Terms,
    ) -> Result<Bytes, Refusal> {
        let Terms { connect, wait, silence, transfer } = terms;
        let within = connect + wait + silence + transfer + MARGIN;
        let late = |_| Err(Refusal::Failed("it did not answer".to_owned()));
        let asked = self.peers.chunk(worker, hash, bytes, terms);
        let chunk = timeout(within, asked).await.unwrap_or_else(late)?;
        if chunk.len() as u64 == bytes {
            let copy = chunk.clone();
            let sha256 = chunk::blocking(move || chunk::sha256(&copy)).await;
            if Hash::parse(&sha256) == Some(hash) {
                return Ok(chunk);
            }
        }
        Err(Refusal::Failed("it sent other bytes".to_owned()))
    }

    /// Who has what, as far as some of the others say.
    async fn holders(&self) -> HashMap<Hash, Vec<u32>> {
        let short = self.patience.silence.min(Duration::from_secs(2));
        let terms = Terms { connect: short, wait: Duration::ZERO, silence: short, transfer: short };
        let asked = deal::acquaintances(self.own, self.workers, ACQUAINTANCES);
        let answers = asked.into_iter().map(|worker| async move {
            (worker, timeout(short, self.peers.held(worker, terms)).await)
        });
        let mut holders: HashMap<Hash, Vec<u32>> = HashMap::new();
        for (worker, answer) in join_all(answers).await {
            let Ok(Ok(hashes)) = answer else { continue };
            for hash in hashes {
                holders.entry(hash).or_default().push(worker);
            }
        }
        holders
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn time_that_overlaps_is_lost_once() {
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let mut lost = Lost::default();
    for (from, until) in [(0, 5), (1, 5), (2, 7), (10, 11), (9, 11)] {
        lost.add(at(from), at(until));
    }
    assert_eq!(lost.total, Duration::from_secs(8));
}
