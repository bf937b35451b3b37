//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::Path;
use std::time::Duration;

/// Why something could not be fetched or written. No variant holds a credential or the query of a URL.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The URI is wrong; nothing was tried.
    #[error("`{uri}` names no model: {reason}")]
    Uri { uri: String, reason: String },
    /// A place that this machine cannot fetch from; the text says what can be done.
    #[error("cannot fetch `{uri}` on this machine: {help}")]
    Unsupported { uri: String, help: &'static str },
    /// `sha256` is not 64 hexadecimal digits.
    #[error("`{given}` is no SHA-256: expected 64 hexadecimal digits")]
    InvalidDigest { given: String },
    #[error("there is nothing at `{uri}`")]
    NotFound { uri: String },
    /// The store refused us.
    #[error("no access to `{uri}`: {reason}{}", hint(help))]
    Denied { uri: String, reason: String, help: &'static str },
    /// A setting of the environment keeps us from asking the store at all.
    #[error("cannot reach the store of `{uri}`: {reason}")]
    Settings { uri: String, reason: String },
    /// `offline` was asked for and the cache has nothing.
    #[error("`{uri}` is not in the cache, and fetching it was forbidden (offline)")]
    NotCached { uri: String },
    /// The content is not what was asked for. Nothing of it was kept.
    #[error("`{uri}` has the SHA-256 {actual}, expected {expected}")]
    Digest { uri: String, expected: String, actual: String },
    /// The disk is too full. What was fetched so far is kept, so that the next try goes on from it.
    #[error(
        "no space for `{uri}`: {needed} more bytes are needed in {folder}{}",
        available.map(|bytes| format!(", {bytes} are free")).unwrap_or_default()
    )]
    NoSpace { uri: String, needed: u64, available: Option<u64>, folder: String },
    /// The remote changed each time while it was being read.
    #[error("`{uri}` changes while it is being fetched; try again when it is complete")]
    Changing { uri: String },
    /// An object's name is no path below the folder.
    #[error("`{uri}` holds the object {key:?}, which cannot be a file of the model: {reason}")]
    UnsafeKey { uri: String, key: String, reason: &'static str },
    /// The remote says that the request is wrong, so that it gets the same answer again.
    #[error("a request to `{uri}` failed: {reason}")]
    Rejected { uri: String, reason: String },
    /// The remote failed, again and again where another attempt could help.
    #[error("requests to `{uri}` failed{}: {reason}", after(*attempts))]
    Remote { uri: String, attempts: u32, reason: String },
    /// An object in a folder that we write to is not what it must be.
    #[error("`{key}` in `{uri}` cannot be used: {reason}")]
    Object { uri: String, key: String, reason: String },
    #[error("fetching `{uri}` took longer than {} seconds", limit.as_secs())]
    Deadline { uri: String, limit: Duration },
    #[error("fetching `{uri}` was cancelled")]
    Cancelled { uri: String },
    #[error("there is no cache folder; set HOME or XDG_CACHE_HOME to an absolute path")]
    NoCache,
    #[error("cannot {action} {path}")]
    Files { action: &'static str, path: String, source: io::Error },
}

/// An error and its causes, in one line.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl StorageError {
    /// Whether the same call may succeed later, though nobody changes anything about it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Remote { .. }
            | Self::Deadline { .. }
            | Self::Changing { .. }
            | Self::NoSpace { .. } => true,
            Self::Files { source, .. } => may_pass(source),
            Self::Uri { .. }
            | Self::Unsupported { .. }
            | Self::InvalidDigest { .. }
            | Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Settings { .. }
            | Self::NotCached { .. }
            | Self::Digest { .. }
            | Self::UnsafeKey { .. }
            | Self::Rejected { .. }
            | Self::Object { .. }
            | Self::Cancelled { .. }
            | Self::NoCache => false,
        }
    }
}

/// Whether a call of the file system that failed so may succeed later, though nobody changes anything
/// about it: a full disk gets room, a file server comes back.
pub fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{
        HostUnreachable, NetworkDown, NetworkUnreachable, QuotaExceeded, StaleNetworkFileHandle,
        StorageFull, TimedOut,
    };
    matches!(
        error.kind(),
        StorageFull
            | QuotaExceeded
            | StaleNetworkFileHandle
            | TimedOut
            | HostUnreachable
            | NetworkUnreachable
            | NetworkDown
    )
}

fn after(attempts: u32) -> String {
    if attempts < 2 { String::new() } else { format!(" after {attempts} attempts") }
}

fn hint(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!(" ({help})") }
}

/// Says what was done to which path when a call of the file system failed.
pub(crate) fn files(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.display().to_string();
    move |source| StorageError::Files { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn table() {
        #[track_caller]
        fn check(code: i32, expected: bool) {
            let source = io::Error::from_raw_os_error(code);
            let error = StorageError::Files { action: "write", path: String::new(), source };
            assert_eq!(error.is_transient(), expected, "{error:?}");
        }
        // ENOSPC, EDQUOT, ESTALE, ETIMEDOUT; ENOENT, EACCES, EROFS.
        for code in [28, 122, 116, 110] {
            check(code, true);
        }
        for code in [2, 13, 30] {
            check(code, false);
        }
    }
}
