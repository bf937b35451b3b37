//! What an agent holds: it watches a program's folder and keeps the store up to date.
//!
//! The folder is looked at again and again rather than watched by inotify, which sees nothing that
//! another machine writes to NFS or a FUSE mount, and which tells of writes and not of being complete:
//! that takes a look anyway. A look is a `stat` of each file.
//!
//! The background has threads of its own at the lowest priority, so that it takes what the program
//! leaves. A thread cannot raise its priority again without rights, so [`Keeper::flush`] and
//! [`Keeper::restore`], for which somebody waits, run on the caller's runtime; and so does an upload that
//! the background has not brought to its end in good time, where the program leaves it too little.

mod pick;
mod pin;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use trainyard_storage::Credentials;

use crate::candidate::{self, Candidate};
use crate::chunk;
use crate::error::{CheckpointError, files};
use crate::manifest::Part;
use crate::prune::PruneOptions;
use crate::restore::{Restored, Skipped, Until};
use crate::save::{Meter, Stamp};
use crate::share::{Brought, Sharing};
use crate::store::{StepId, Store, Tuning};
use pick::{Moment, Picked, Watched};
use pin::Pins;

/// What is kept, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that the program writes checkpoints to.
    pub path: PathBuf,
    /// The store: a folder, `file`, `s3`, `gs` or `az`.
    pub uri: String,
    pub credentials: Credentials,
    /// Whole checkpoints that the store keeps.
    pub keep: usize,
    /// Workers of the job.
    pub workers: u32,
    /// What this worker saves: [`Part::WHOLE`] if it saves for all, `None` if another one does.
    pub part: Option<Part>,
    /// Names this start of the workers: the same for all of them, and never used again with this store,
    /// such as the job's UID and the count of restarts. Needed where there are several workers.
    pub attempt: String,
    /// All workers see the same folder, such as a volume that many may write.
    pub path_is_shared: bool,
    /// Between two looks at the folder.
    pub poll: Duration,
    /// How long a checkpoint of an unknown layout must not change before it counts as complete.
    pub still_for: Duration,
    pub tuning: Tuning,
    /// Priority of the background's threads, 0 to 19 (setpriority(2)).
    pub nice: i32,
    /// The workers that chunks come from before the store is asked, where each has a folder of its
    /// own; none where the store alone is asked.
    pub sharing: Option<Arc<Sharing>>,
}

impl Settings {
    /// One worker that saves everything, and three checkpoints kept.
    pub fn new(path: impl Into<PathBuf>, uri: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            uri: uri.into(),
            credentials: Credentials::default(),
            keep: 3,
            workers: 1,
            part: Some(Part::WHOLE),
            attempt: String::new(),
            path_is_shared: false,
            poll: Duration::from_secs(2),
            still_for: Duration::from_secs(30),
            tuning: Tuning::default(),
            nice: 19,
            sharing: None,
        }
    }

    fn check(&self) -> Result<(), CheckpointError> {
        let wrong = |text: String| Err(CheckpointError::Settings(text));
        if self.workers == 0 {
            return wrong("a job has at least one worker".to_owned());
        }
        if let Some(Part { index, of }) = self.part
            && (index >= of || of > self.workers)
        {
            return wrong(format!("part {index} of {of} does not fit {} workers", self.workers));
        }
        if self.workers > 1 && self.attempt.is_empty() {
            return wrong("several workers need `attempt`, which names this start".to_owned());
        }
        if self.keep == 0 {
            return wrong("at least one checkpoint must be kept".to_owned());
        }
        Ok(())
    }
}

/// Where the checkpoint came from that a start goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It was in the folder, whole and not older than the store's.
    Local,
    Store,
}

/// What a start goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub name: String,
    /// The step that its name tells.
    pub step: Option<u64>,
    /// What the program gives to its framework.
    pub path: PathBuf,
    pub source: Source,
    /// Where its bytes came from; nothing was brought if they were there.
    pub brought: Brought,
    pub took: Duration,
    /// Newer ones that could not be used, and why.
    pub skipped: Vec<Skipped>,
}

/// What a flush has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Checkpoints that became durable in this call.
    pub saved: Vec<String>,
    /// Those that did not, and why.
    pub left: Vec<(String, String)>,
    /// The newest of those that are complete, and why the store does not have it. One that no store could
    /// take is none of them.
    pub lost: Option<(String, String)>,
    /// The deadline came first.
    pub ran_out: bool,
}

/// Figures since the start, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    pub uploaded_bytes: u64,
    /// Bytes of checkpoints that the store had already.
    pub reused_bytes: u64,
    pub restored_bytes: u64,
    /// Of those, what was brought from the store, and what from other workers.
    pub from_store_bytes: u64,
    pub from_peers_bytes: u64,
    /// Checkpoints that became durable.
    pub saved: u64,
    /// Attempts to upload, to prune or to look that failed.
    pub failures: u64,
    /// Checkpoints that were removed from the store.
    pub removed: u64,
    /// Checkpoints that were passed over because they were damaged.
    pub damaged: u64,
    /// The newest that is durable.
    pub newest: Option<String>,
    pub newest_step: Option<u64>,
    /// When it became durable, in milliseconds since the Unix epoch.
    pub newest_saved_unix_ms: Option<u64>,
    /// When the newest complete one was begun that was found since the start.
    pub found: Option<SystemTime>,
    /// When the newest one was begun that became durable since the start.
    pub durable: Option<SystemTime>,
    /// What failed last; `None` after it went well again.
    pub last_error: Option<String>,
    /// Checkpoints in the folder that are not durable yet, and why.
    pub waiting: Vec<(String, String)>,
}

/// Keeps the store of checkpoints up to date with a program's folder, until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    opened: SystemTime,
    store: Store,
    meter: Meter,
    restored: AtomicU64,
    told: Mutex<Counters>,
    /// Who holds it uploads.
    watched: AsyncMutex<Watched>,
    pins: Pins,
    /// How many callers wait that the background makes room.
    callers: watch::Sender<u32>,
    /// The next look is not to wait for long.
    look_soon: AtomicBool,
    /// For how long the lowest priority is enough.
    patience: Mutex<Patience>,
}

/// Between the first and the second look at a checkpoint that says of itself that it is complete.
const LOOK_SOON: Duration = Duration::from_millis(250);
/// The pause after one failure, which doubles with each further one in a row: a store that is away for a
/// moment costs no more than that.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The longest that an upload stays at the lowest priority.
const MAX_PATIENCE: Duration = Duration::from_secs(300);
/// Between two tries to prune while others use the store.
const PRUNE_AGAIN: Duration = Duration::from_secs(20);
/// Between two looks of a flush.
const FLUSH_LOOK: Duration = Duration::from_millis(250);
/// The longest pause between looks of a flush that insists.
const FLUSH_PAUSE: Duration = Duration::from_secs(10);
/// Between two looks whether another worker has restored into the folder.
const TURN: Duration = Duration::from_millis(100);
/// Where checkpoints go that a start of several workers must not go on from.
const SUPERSEDED: &str = ".trainyard-superseded";

impl Keeper {
    /// Opens the store. Nothing is watched before [`Keeper::watch`].
    pub fn open(settings: Settings) -> Result<Self, CheckpointError> {
        let store = Store::open(&settings.uri, &settings.credentials)?;
        Self::over(settings, store)
    }

    /// As [`Keeper::open`], with a store that is open already.
    pub fn over(settings: Settings, store: Store) -> Result<Self, CheckpointError> {
        settings.check()?;
        let store = store.with_tuning(settings.tuning);
        let pins = Pins::of(&settings.path);
        if settings.part.is_some() {
            pins.clear();
        }
        let shared = Shared {
            store,
            meter: Meter::default(),
            restored: AtomicU64::new(0),
            told: Mutex::default(),
            watched: AsyncMutex::new(Watched::new(settings.still_for)),
            callers: watch::Sender::new(0),
            look_soon: AtomicBool::new(false),
            patience: Mutex::new(Patience::new(settings.poll)),
            pins,
            opened: SystemTime::now(),
            settings,
        };
        Ok(Self { shared: Arc::new(shared), stop: CancellationToken::new(), thread: None })
    }

    /// Brings the checkpoint into the folder that this start goes on from; `None`: it begins anew.
    ///
    /// That is the newest whole one in the store, or one in the folder itself if that is as new. Where
    /// several workers have folders of their own, all of them get the same one: the first to have
    /// restored one decides, and newer ones in their folders are moved aside. Call it before the program
    /// starts and before [`Keeper::watch`].
    pub async fn restore(&self) -> Result<Option<Start>, CheckpointError> {
        let shared = &self.shared;
        let began = Instant::now();
        let mut start = match shared.settings.workers == 1 || shared.settings.path_is_shared {
            true => shared.restore_alone().await?,
            false => shared.restore_together().await?,
        };
        if let Some(start) = &mut start {
            start.took = began.elapsed();
            let mut watched = shared.watched.lock().await;
            for skipped in &start.skipped {
                watched.damaged.insert(skipped.id.clone());
            }
            let mut told = shared.told();
            told.damaged = told.damaged.saturating_add(start.skipped.len() as u64);
        }
        Ok(start)
    }

    /// Begins to look for checkpoints and to upload them, in the background. Does nothing if this
    /// worker saves none, or at a second call.
    pub fn watch(&mut self) -> Result<(), CheckpointError> {
        if self.thread.is_some() || self.shared.settings.part.is_none() {
            return Ok(());
        }
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let nice = shared.settings.nice.clamp(0, 19);
        let callers_runtime = Handle::try_current().ok();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(blocking_threads(cores, shared.settings.tuning.parallel))
            .thread_name("checkpoints")
            .on_thread_start(move || lower_priority(nice))
            .build()
            .map_err(files("start threads for", &self.shared.settings.path))?;
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            lower_priority(nice);
            runtime.block_on(shared.run(&stop, callers_runtime));
            // A write that hangs in a dead file server must not hold up the end.
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let thread = thread.map_err(files("start threads for", &self.shared.settings.path))?;
        self.thread = Some(thread);
        Ok(())
    }

    /// Uploads what is complete, now, with full priority: after a notice that the machine goes, or when
    /// the program has ended. Returns when everything is durable, or at the deadline at the latest. What
    /// the background was uploading goes on from where it was.
    pub async fn flush(&self, within: Duration) -> Flushed {
        self.flush_within(within, false).await
    }

    /// The same; while the store fails in a way that may pass, it is asked again until the deadline.
    pub async fn insist(&self, within: Duration) -> Flushed {
        self.flush_within(within, true).await
    }

    async fn flush_within(&self, within: Duration, insist: bool) -> Flushed {
        let shared = &self.shared;
        if shared.settings.part.is_none() {
            return Flushed::default();
        }
        let mut flushed = Flushed::default();
        let _room = Room::make(&shared.callers);
        let work = shared.flush(&mut flushed, insist);
        flushed.ran_out = tokio::time::timeout(within, work).await.is_err();
        flushed
    }

    pub fn counters(&self) -> Counters {
        let shared = &self.shared;
        let mut told = shared.told().clone();
        told.uploaded_bytes = shared.meter.uploaded.load(Ordering::Relaxed);
        told.reused_bytes = shared.meter.reused.load(Ordering::Relaxed);
        told.restored_bytes = shared.restored.load(Ordering::Relaxed);
        told
    }

    /// The store, for other questions.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Ends the background, and waits for it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was told on standard error.
            let _ = chunk::blocking(move || thread.join()).await;
            let pins = self.shared.pins.clone();
            chunk::blocking(move || pins.clear()).await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Threads that read and hash beside the one that sends: all together no more than there are cores. One at
/// the lowest priority gets 15 of 1039 parts of a core that another one keeps busy (`sched_prio_to_weight` of
/// Linux's kernel/sched/core.c), and so the background takes no more than 1.5 % of the cores from the
/// program. One hashes more than most networks carry.
fn blocking_threads(cores: usize, parallel: usize) -> usize {
    cores.saturating_sub(1).min(parallel).max(1)
}

/// Lowers the calling thread's priority. On Linux that is of the thread alone, and the priority of its
/// reads and writes follows (ioprio_set(2)).
fn lower_priority(nice: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::warn!(%error, "checkpoints are uploaded with the program's own priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// A checkpoint to upload now.
struct Ready {
    candidate: Candidate,
    /// It was seen once only, and must be the same at this moment.
    look_again: Option<Instant>,
}

/// Makes the background stop what it does for as long as it lives.
struct Room<'a>(&'a watch::Sender<u32>);

impl<'a> Room<'a> {
    fn make(callers: &'a watch::Sender<u32>) -> Self {
        callers.send_modify(|n| *n = n.saturating_add(1));
        Self(callers)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// How long the background may take for an upload: as long as passes between two checkpoints, so that what
/// a lost disk costs stays within about two of these times, however busy the program keeps the machine.
#[derive(Debug)]
struct Patience {
    least: Duration,
    time: Duration,
    /// When the newest checkpoint was written, in milliseconds since the Unix epoch.
    newest_ms: Option<u64>,
}

impl Patience {
    fn new(poll: Duration) -> Self {
        // Of the first one nobody knows when the next will come.
        let time = poll.saturating_mul(15).min(MAX_PATIENCE);
        Self { least: poll.min(MAX_PATIENCE), time, newest_ms: None }
    }

    /// The more often a program writes checkpoints, the sooner one is to be seen.
    fn between_looks(&self) -> Duration {
        self.time / 16
    }

    /// Notes when a checkpoint was written.
    fn seen(&mut self, written_ms: u64) {
        let before = self.newest_ms.unwrap_or(written_ms);
        if written_ms > before {
            let apart = Duration::from_millis(written_ms.saturating_sub(before));
            self.time = apart.clamp(self.least, MAX_PATIENCE);
        }
        self.newest_ms = Some(before.max(written_ms));
    }
}

impl Shared {
    fn told(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The background.
    async fn run(self: &Arc<Self>, stop: &CancellationToken, callers_runtime: Option<Handle>) {
        let mut callers = self.callers.subscribe();
        let mut failures = 0u32;
        let mut prune_at: Option<Instant> = None;
        while !stop.is_cancelled() {
            let saving = async {
                // The sender lives as long as this.
                let _ = callers.wait_for(|n| *n == 0).await;
                tokio::select! {
                    saved = self.save_in_time(&mut prune_at, callers_runtime.as_ref()) => Some(saved),
                    _ = callers.wait_for(|n| *n > 0) => None,
                }
            };
            let saved = stop.run_until_cancelled(saving).await.flatten();
            let worked = match saved {
                None => continue,
                Some(Err(error)) => Err(error),
                Some(Ok(())) => self.prune_in_time(&mut prune_at, &mut callers, stop).await,
            };
            match worked {
                Ok(()) => {
                    failures = 0;
                    self.told().last_error = None;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.failed(&error);
                }
            }
            let pause = match failures {
                0 if self.look_soon.load(Ordering::Relaxed) => self.settings.poll.min(LOOK_SOON),
                0 => self.settings.poll.min(self.patience().between_looks()),
                _ => FIRST_BACKOFF
                    .saturating_mul(1 << failures.saturating_sub(1).min(8))
                    .min(MAX_BACKOFF),
            };
            tokio::select! {
                () = tokio::time::sleep(pause.max(Duration::from_millis(10))) => {}
                _ = callers.wait_for(|n| *n > 0) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Removes old checkpoints, if some may be there. Makes room when somebody calls, but is not dropped.
    async fn prune_in_time(
        &self,
        prune_at: &mut Option<Instant>,
        callers: &mut watch::Receiver<u32>,
        stop: &CancellationToken,
    ) -> Result<(), CheckpointError> {
        if prune_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let enough = async {
            tokio::select! {
                _ = callers.wait_for(|n| *n > 0) => {}
                () = stop.cancelled() => {}
            }
        };
        let pruned = self.prune(enough).await;
        *prune_at = (!pruned?).then(|| Instant::now() + PRUNE_AGAIN);
        Ok(())
    }

    /// One look, and what is to be saved by it: by the background, and from a moment on by the caller's
    /// runtime, whose threads have the program's priority. What was sent by then is not sent again.
    async fn save_in_time(
        self: &Arc<Self>,
        prune_at: &mut Option<Instant>,
        callers_runtime: Option<&Handle>,
    ) -> Result<(), CheckpointError> {
        let Some(runtime) = callers_runtime else { return self.save_ready(prune_at).await };
        let patience = self.patience().time;
        {
            let mut saving = std::pin::pin!(self.save_ready(prune_at));
            loop {
                if let Ok(saved) = tokio::time::timeout(patience, &mut saving).await {
                    return saved;
                }
                // What is as good as done is brought to its end.
                if self.meter.publishing.load(Ordering::Relaxed) == 0 {
                    break;
                }
            }
        }
        tracing::info!(
            seconds = patience.as_secs_f64(),
            "an upload takes longer than what is between two checkpoints: it goes on with the program's \
             own priority"
        );
        let shared = Arc::clone(self);
        let saving = runtime.spawn(async move {
            let mut prune_at = None;
            let saved = shared.save_ready(&mut prune_at).await;
            (saved, prune_at)
        });
        match AbortOnDropHandle::new(saving).await {
            Ok((saved, at)) => {
                *prune_at = at.or(*prune_at);
                saved
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // That runtime is being torn down: the next turn is the background's.
                Err(_) => Ok(()),
            },
        }
    }

    async fn save_ready(&self, prune_at: &mut Option<Instant>) -> Result<(), CheckpointError> {
        let mut watched = self.watched.lock().await;
        loop {
            let ready = self.ready(&mut watched, Moment::Running).await?;
            let Some(next) = ready.into_iter().next() else { return Ok(()) };
            self.patience().seen(next.candidate.tree.modified_ms());
            self.save(&mut watched, &next).await?;
            *prune_at = Some(Instant::now());
        }
    }

    fn patience(&self) -> std::sync::MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn flush(&self, flushed: &mut Flushed, insist: bool) {
        let mut watched = self.watched.lock().await;
        let mut pause = FLUSH_LOOK;
        // Two looks, so that one that is being written is seen to be.
        let mut is_second = false;
        // What no further look would name again.
        let mut refused: Vec<(String, String)> = Vec::new();
        loop {
            let mut may_pass = false;
            let ready = match self.ready(&mut watched, Moment::Ending).await {
                Ok(ready) => ready,
                Err(error) => {
                    self.failed(&error);
                    flushed.left = vec![("-".to_owned(), error.in_full())];
                    if !insist || !error.is_transient() {
                        return;
                    }
                    may_pass = true;
                    Vec::new()
                }
            };
            if !may_pass {
                // Until it is done; a deadline leaves it so.
                let late = |it: &Ready| (it.candidate.name.clone(), "the time ran out".to_owned());
                flushed.left = refused.iter().cloned().chain(ready.iter().map(late)).collect();
                flushed.lost =
                    ready.iter().max_by_key(|it| it.candidate.tree.modified_ms()).map(late);
            }
            for ready in ready {
                let name = &ready.candidate.name;
                match self.save(&mut watched, &ready).await {
                    Ok(is_new) => {
                        flushed.left.retain(|it| it.0 != *name);
                        flushed.lost.take_if(|it| it.0 == *name);
                        if is_new {
                            flushed.saved.push(name.clone());
                        }
                    }
                    Err(error) => {
                        self.failed(&error);
                        may_pass |= error.is_transient();
                        if let CheckpointError::Unnumbered { .. } = error {
                            refused.push((name.clone(), error.in_full()));
                            flushed.lost.take_if(|it| it.0 == *name);
                        }
                        let told = flushed.left.iter_mut().chain(&mut flushed.lost);
                        for (_, reason) in told.filter(|it| it.0 == *name) {
                            *reason = error.in_full();
                        }
                    }
                }
            }
            flushed.left.extend(self.told().waiting.clone());
            if is_second && !(insist && may_pass) {
                return;
            }
            tokio::time::sleep(pause).await;
            if is_second {
                pause = pause.saturating_mul(2).min(FLUSH_PAUSE);
            }
            is_second = true;
        }
    }

    /// Checkpoints that are complete and not saved, the newest first, and then those that wait for
    /// nothing but a second look.
    async fn ready(
        &self,
        watched: &mut Watched,
        moment: Moment,
    ) -> Result<Vec<Ready>, CheckpointError> {
        let (path, pins) = (self.settings.path.clone(), self.pins.clone());
        let found = chunk::blocking(move || Ok((candidate::look(&path)?, pins.look()?))).await;
        let found = found.map_err(files("look into", &self.settings.path))?;
        let is_gang = self.settings.part.is_some_and(|part| part.of > 1);
        let Picked { ready, ahead, waiting, look_soon, unpin, pin } =
            watched.pick(found, moment, is_gang, self.settings.keep);
        self.told().waiting = waiting;
        self.look_soon.store(look_soon, Ordering::Relaxed);
        if !unpin.is_empty() || !pin.is_empty() {
            let pins = self.pins.clone();
            let pinned = chunk::blocking(move || {
                unpin.iter().for_each(|name| pins.remove(name));
                pin.iter().for_each(|name| pins.add(name));
                pins.look()
            })
            .await;
            // One that cannot be looked at now is seen at the next look.
            watched.note_pinned(pinned.unwrap_or_default(), moment);
        }
        let again = Instant::now() + self.settings.poll.min(LOOK_SOON);
        let newest = ready.iter().chain(&ahead).max_by_key(|it| it.tree.modified());
        if let Some(newest) = newest.filter(|it| watched.is_latest(it) && !watched.was_there(it)) {
            let begun = self.begun(newest).await;
            self.told().found = Some(begun);
        }
        let ready = ready.into_iter().map(|it| Ready { candidate: it, look_again: None });
        let ahead = ahead.into_iter().map(|it| Ready { candidate: it, look_again: Some(again) });
        Ok(ready.chain(ahead).collect())
    }

    /// When the program began to write it, which was after the last one that is durable.
    async fn begun(&self, candidate: &Candidate) -> SystemTime {
        let after = self.told().durable.unwrap_or(self.opened);
        let candidate = candidate.clone();
        chunk::blocking(move || candidate.begun(after)).await
    }

    /// Makes a checkpoint durable; tells whether it was not before.
    async fn save(
        &self,
        watched: &mut Watched,
        Ready { candidate: source, look_again }: &Ready,
    ) -> Result<bool, CheckpointError> {
        let Some(part) = self.settings.part else { return Ok(false) };
        let candidate = &self.pins.unpinned(source);
        let stamp = Stamp {
            part,
            attempt: self.settings.attempt.clone(),
            is_new: !watched.was_there(candidate) && watched.is_latest(candidate),
            look_again: *look_again,
        };
        let saved = match self.store.save(source, &stamp, &self.meter).await {
            Ok(saved) => saved,
            Err(CheckpointError::Changed { name }) if look_again.is_some() => {
                self.told().waiting.push((name, "it was just written".to_owned()));
                return Ok(false);
            }
            Err(error) => {
                if let CheckpointError::Unnumbered { .. } = error {
                    // It will not get better; once is enough to tell.
                    watched.done(candidate);
                }
                return Err(error);
            }
        };
        watched.done(candidate);
        let begun = if stamp.is_new { Some(self.begun(source).await) } else { None };
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut told = self.told();
        told.saved = told.saved.saturating_add(u64::from(saved.is_published));
        if stamp.is_new || told.newest.is_none() {
            told.newest = Some(saved.id.name.clone());
            told.newest_step = candidate.step();
            told.newest_saved_unix_ms = u64::try_from(moment.as_millis()).ok();
        }
        told.durable = begun.or(told.durable);
        told.waiting.retain(|(name, _)| *name != candidate.name);
        tracing::info!(
            name = saved.id.name,
            bytes = candidate.tree.bytes(),
            "checkpoint is durable"
        );
        Ok(saved.is_published)
    }

    /// Whether nothing is left to remove. One worker does it for all.
    async fn prune(&self, enough: impl Future<Output = ()>) -> Result<bool, CheckpointError> {
        if self.settings.part.is_none_or(|part| part.index > 0) {
            return Ok(true);
        }
        let mut enough = std::pin::pin!(enough);
        let damaged = tokio::select! {
            () = &mut enough => return Ok(false),
            // Whoever calls may look at the folder meanwhile.
            watched = self.watched.lock() => watched.damaged.clone(),
        };
        let options = PruneOptions { damaged, ..PruneOptions::keep(self.settings.keep) };
        let pruned = self.store.prune_until(&options, enough).await?;
        let mut told = self.told();
        told.removed = told.removed.saturating_add(pruned.removed.len() as u64);
        if !pruned.broken.is_empty() {
            tracing::warn!(broken = ?pruned.broken, "no chunk is removed: manifests cannot be read");
        }
        Ok(!pruned.is_busy)
    }

    fn failed(&self, error: &CheckpointError) {
        let text = error.in_full();
        tracing::warn!(error = text, "checkpoints are not up to date");
        let mut told = self.told();
        told.failures = told.failures.saturating_add(1);
        told.last_error = Some(text);
    }

    /// Where workers have one folder, one of them fetches, and the others find it there. Who cannot
    /// lock the folder, as on some network file systems, does not wait.
    async fn turn_in_folder(&self) -> Option<std::fs::File> {
        if !self.settings.path_is_shared || self.settings.workers == 1 {
            return None;
        }
        let folder = std::fs::File::open(&self.settings.path).ok()?;
        loop {
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(folder),
                // It is let go when its holder is done, or gone.
                Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(TURN).await,
                Err(_) => return None,
            }
        }
    }

    /// The folder's own newest checkpoint counts if it is as new as the store's.
    async fn restore_alone(&self) -> Result<Option<Start>, CheckpointError> {
        let _turn = self.turn_in_folder().await;
        let mut watched = self.watched.lock().await;
        let local = self.note_what_is_there(&mut watched).await?;
        let catalogue = self.store.catalogue().await?;
        let local = local.into_iter().max_by_key(|it| (it.tree.modified_ms(), it.step()));
        if let Some(local) = local {
            let written = local.tree.modified_ms();
            let newest = catalogue.complete().next();
            // By step where both tell one; a copy from the store has new times.
            let is_newer = newest.is_none_or(|step| match (local.step(), step.step()) {
                (Some(ours), Some(theirs)) if ours != theirs => ours > theirs,
                _ => local.name != step.id.name && written > step.sequence(),
            });
            if is_newer {
                return Ok(Some(Start {
                    step: local.step(),
                    path: if local.is_folder || local.tree.files.len() == 1 {
                        local.tree.root.join(if local.is_folder { "" } else { &local.name })
                    } else {
                        self.settings.path.clone()
                    },
                    name: local.name,
                    source: Source::Local,
                    brought: Brought::default(),
                    took: Duration::ZERO,
                    skipped: Vec::new(),
                }));
            }
        }
        let own = self.settings.part.map(|part| part.index);
        let restored = self.newest(own, None).await?;
        self.begin(&mut watched, restored).await
    }

    /// All workers go on from the same one.
    async fn restore_together(&self) -> Result<Option<Start>, CheckpointError> {
        let attempt = &self.settings.attempt;
        let own = self.settings.part.map(|part| part.index);
        let mut watched = self.watched.lock().await;
        self.note_what_is_there(&mut watched).await?;
        let mut decided = self.store.decided(attempt).await?;
        let mut restored = None;
        if decided.is_none() {
            // Only what could be read to its end is proposed to the others.
            let sharing = self.settings.sharing.as_deref();
            restored = self.newest(own, sharing).await?;
            let id = restored.as_ref().map(|it| &it.id);
            decided = Some(self.store.decide(attempt, id).await?);
        }
        let decided = decided.flatten();
        if restored.as_ref().map(|it| &it.id) != decided.as_ref() {
            restored = match &decided {
                None => None,
                Some(id) => Some(self.restore_decided(id, own).await?),
            };
        }
        if let (None, Some(sharing)) = (&restored, &self.settings.sharing) {
            sharing.offer.nothing();
        }
        self.set_aside(restored.as_ref()).await?;
        self.begin(&mut watched, restored).await
    }

    async fn newest(
        &self,
        own: Option<u32>,
        sharing: Option<&Sharing>,
    ) -> Result<Option<Restored>, CheckpointError> {
        let path = &self.settings.path;
        self.store.restore_newest_with(path, own, sharing, Until::Readable).await
    }

    async fn restore_decided(
        &self,
        id: &StepId,
        own: Option<u32>,
    ) -> Result<Restored, CheckpointError> {
        let catalogue = self.store.catalogue().await?;
        let step = catalogue.steps.iter().find(|step| step.id == *id);
        let step = step.ok_or_else(|| CheckpointError::NotFound {
            uri: self.store.uri().to_owned(),
            name: id.name.clone(),
            known: Vec::new(),
        })?;
        let sharing = self.settings.sharing.as_deref();
        self.store.restore_with(step, &self.settings.path, own, sharing, Until::Readable).await
    }

    /// Complete checkpoints in the folder. All that is there is noted as not new.
    async fn note_what_is_there(
        &self,
        watched: &mut Watched,
    ) -> Result<Vec<Candidate>, CheckpointError> {
        let path = self.settings.path.clone();
        let found = chunk::blocking(move || candidate::look(&path)).await;
        let found = found.map_err(files("look into", &self.settings.path))?;
        watched.note(&found);
        let is_complete =
            |it: &Candidate| matches!(it.verdict, crate::recognise::Verdict::Complete(_));
        Ok(found.into_iter().filter(is_complete).collect())
    }

    /// Moves away what one worker has and the others have not: a program that looks for the newest
    /// folder would go on from it.
    async fn set_aside(&self, restored: Option<&Restored>) -> Result<(), CheckpointError> {
        let path = self.settings.path.clone();
        let (step, name) = (restored.and_then(|it| it.step), restored.map(|it| it.id.name.clone()));
        chunk::blocking(move || {
            let found = candidate::look(&path).map_err(files("look into", &path))?;
            let is_ahead = |it: &Candidate| {
                it.is_folder
                    && Some(&it.name) != name.as_ref()
                    && it.step().is_some()
                    && (step.is_none() || it.step() > step)
            };
            let ahead: Vec<Candidate> = found.into_iter().filter(is_ahead).collect();
            if ahead.is_empty() {
                return Ok(());
            }
            let aside = path.join(SUPERSEDED);
            // What an earlier start moved away has had its time.
            match std::fs::remove_dir_all(&aside) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(files("remove", &aside)(error));
                }
                _ => {}
            }
            std::fs::create_dir(&aside).map_err(files("create", &aside))?;
            for it in ahead {
                tracing::warn!(name = it.name, "moved aside: the other workers do not have it");
                std::fs::rename(path.join(&it.name), aside.join(&it.name))
                    .map_err(files("move", &it.tree.root))?;
            }
            Ok(())
        })
        .await
    }

    async fn begin(
        &self,
        watched: &mut Watched,
        restored: Option<Restored>,
    ) -> Result<Option<Start>, CheckpointError> {
        // What was just restored is no new checkpoint.
        let path = self.settings.path.clone();
        let found = chunk::blocking(move || candidate::look(&path)).await;
        let found = found.map_err(files("look into", &self.settings.path))?;
        watched.note(&found);
        let Some(restored) = restored else { return Ok(None) };
        for candidate in found.iter().filter(|it| it.name == restored.id.name) {
            watched.done(candidate);
        }
        self.restored.fetch_add(restored.bytes, Ordering::Relaxed);
        let mut told = self.told();
        let brought = restored.brought;
        told.from_store_bytes = told.from_store_bytes.saturating_add(brought.from_store);
        told.from_peers_bytes = told.from_peers_bytes.saturating_add(brought.from_peers);
        told.newest = Some(restored.id.name.clone());
        told.newest_step = restored.step;
        Ok(Some(Start {
            name: restored.id.name,
            step: restored.step,
            path: restored.path,
            source: Source::Store,
            brought: restored.brought,
            took: Duration::ZERO,
            skipped: restored.skipped,
        }))
    }
}

#[test]
fn uploads_may_take_as_long_as_is_between_checkpoints() {
    let mut patience = Patience::new(Duration::from_secs(2));
    assert_eq!(patience.time, Duration::from_secs(30));
    let mut after = |seconds: u64| {
        patience.seen(seconds * 1000);
        patience.time.as_secs()
    };
    assert_eq!([after(1000), after(1060), after(1050), after(1061)], [30, 60, 60, 2]);
    assert_eq!(after(9000), 300);
    assert!(patience.between_looks() > Duration::from_secs(2));
    patience.seen(9_003_000);
    assert_eq!(patience.between_looks(), Duration::from_secs(3) / 16);
}
