//! The one entry point: a URI to a path on this machine.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cache::Entry;
use crate::credentials::Credentials;
use crate::error::StorageError;
use crate::location::{self, Location};
use crate::remote::{self, Remote};
use crate::update::Update;
use crate::{digest, local};

/// How to fetch. The default suits servers: the user's cache, revalidation, no deadline.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Folder of the cache; `None` is `$XDG_CACHE_HOME/trainyard/models`, else
    /// `~/.cache/trainyard/models`.
    pub cache: Option<PathBuf>,
    /// What the content must hash to, in hexadecimal. Of a folder: the hash of the lines
    /// `HEX  PATH\n` that `sha256sum` prints for its files, in byte order of their paths.
    pub sha256: Option<String>,
    /// What an object store is asked with, in place of this process's environment.
    pub credentials: Credentials,
    /// Use what the cache has and do not ask the remote.
    pub offline: bool,
    /// Allow `http://` to hosts other than loopback, where anybody on the way can change the model.
    pub allow_http: bool,
    /// Size of the ranges that are fetched side by side, in bytes.
    pub part_bytes: u64,
    /// How many ranges, of one file or several, are in flight at once.
    pub parallel: usize,
    /// How long the remote may send nothing before the request is tried again.
    pub stall: Duration,
    /// How many attempts in a row may bring nothing.
    pub attempts: u32,
    /// The pause after the first failed attempt; it doubles with each further one.
    pub backoff: Duration,
    /// Limit of the whole call, waiting for another process included.
    pub deadline: Option<Duration>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            cache: None,
            sha256: None,
            credentials: Credentials::default(),
            offline: false,
            allow_http: false,
            part_bytes: 8 << 20,
            parallel: 8,
            stall: Duration::from_secs(30),
            // About 6 seconds until giving up on a remote that is down.
            attempts: 6,
            backoff: Duration::from_millis(200),
            deadline: None,
        }
    }
}

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Another process fetches the same model.
    Waiting,
    Downloading,
    /// Computing the SHA-256.
    Verifying,
}

/// How far a fetch is. Bytes of one stage; both start again at the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    pub done_bytes: u64,
    /// `None` where the remote does not say.
    pub total_bytes: Option<u64>,
}

/// Where the content came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A local path, used where it lies.
    Local,
    /// The cache, which the remote confirmed or `offline` or `sha256` made sufficient.
    Cache,
    /// The remote, in this call.
    Remote,
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// A file that keeps the remote's name, or a folder. Files in the cache are read-only and never
    /// change: new content gets a new path.
    pub path: PathBuf,
    /// Differs when the content does: `sha256:HEX`, or `stat:HEX` (of sizes and times) for a local
    /// path that was not hashed because no `sha256` was asked for.
    pub fingerprint: String,
    /// Size of all files.
    pub bytes: u64,
    pub source: Source,
}

/// Makes a model available as a local path.
///
/// Local paths (`file://` or no scheme) are used where they lie. Everything else goes through the
/// cache: content that the remote confirms by its ETag, or that matches `sha256`, is not downloaded
/// again. Any number of processes may fetch the same model at once; one downloads, the others wait.
/// Cancelling, dropping the future or killing the process leaves parts that the next call goes on
/// from, and never a file that is not whole.
///
/// `progress` is called often, from the task that polls the future; it must not block.
pub async fn fetch(
    uri: &str,
    options: &FetchOptions,
    progress: &(dyn Fn(Progress) + Send + Sync),
    cancel: &CancellationToken,
) -> Result<Fetched, StorageError> {
    let shown = location::shown(uri);
    let work = async {
        let work = find(uri, &shown, options, progress);
        match options.deadline {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(StorageError::Deadline { uri: shown.clone(), limit })),
        }
    };
    let cancelled = || Err(StorageError::Cancelled { uri: shown.clone() });
    cancel.run_until_cancelled(work).await.unwrap_or_else(cancelled)
}

async fn find(
    uri: &str,
    shown: &str,
    options: &FetchOptions,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Fetched, StorageError> {
    let expected = options.sha256.as_deref().map(digest::parse).transpose()?;
    let place = match Location::parse(uri, options.allow_http)? {
        Location::Local(path) => {
            return local::fetch(&path, shown, expected.as_deref(), progress).await;
        }
        Location::Remote(place) => place,
    };
    let entry =
        Entry::open(options.cache.as_deref(), &remote::identity(&place, &options.credentials))?;
    let cached = entry.model().await?;
    if let Some(cached) = &cached
        && (options.offline || expected.as_deref() == Some(cached.sha256()))
    {
        check_digest(shown, expected.as_deref(), cached.sha256())?;
        return Ok(entry.fetched(cached, Source::Cache));
    }
    if options.offline {
        return Err(StorageError::NotCached { uri: shown.to_owned() });
    }
    let remote = Remote::open(&place, shown, options)?;
    let waiting = || progress(Progress { stage: Stage::Waiting, done_bytes: 0, total_bytes: None });
    let lock = entry.lock(waiting).await?;
    let update =
        Update { uri: shown, options, expected: expected.as_deref(), entry: &entry, progress };
    let fetched = update.run(&remote).await;
    drop(lock);
    fetched
}

pub(crate) fn check_digest(
    uri: &str,
    expected: Option<&str>,
    actual: &str,
) -> Result<(), StorageError> {
    match expected {
        Some(expected) if expected != actual => Err(StorageError::Digest {
            uri: uri.to_owned(),
            expected: expected.to_owned(),
            actual: actual.to_owned(),
        }),
        _ => Ok(()),
    }
}
