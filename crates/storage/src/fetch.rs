//! The one entry point: a URI to a path on this machine.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::StorageError;

/// How to fetch. The default suits servers: the user's cache, revalidation, no deadline.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Folder of the cache; `None` is `$XDG_CACHE_HOME/trainyard/models`, else
    /// `~/.cache/trainyard/models`.
    pub cache: Option<PathBuf>,
    /// What the content must hash to, in hexadecimal. Of a folder: the hash of the lines
    /// `HEX  PATH\n` that `sha256sum` prints for its files, in byte order of their paths.
    pub sha256: Option<String>,
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
    /// Limit of the whole call, waiting for another process included.
    pub deadline: Option<Duration>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            cache: None,
            sha256: None,
            offline: false,
            allow_http: false,
            part_bytes: 8 << 20,
            parallel: 8,
            stall: Duration::from_secs(30),
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
    let (_, _, _, _) = (uri, options, progress, cancel);
    todo!()
}
