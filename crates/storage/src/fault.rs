//! Failures of a remote, by what follows from them.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::error::StorageError;

/// What to do after a request failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Try again later; the remote may have said when.
    Transient { reason: String, after: Option<Duration> },
    /// The content is another one than when the fetch began: begin again.
    Changed,
    /// The remote answers ranges with everything: read it in one stream.
    NoRanges,
    /// Trying again does not help.
    Fatal(StorageError),
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Fatal(error)
    }
}

impl Fault {
    pub(crate) fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), after: None }
    }
}

/// Gives up on something that the remote should do within `stall`.
pub(crate) async fn within<T>(stall: Duration, work: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::time::timeout(stall, work)
        .await
        .map_err(|_| Fault::transient(format!("it sent nothing for {stall:?}")))
}

/// Longest pause that we choose, and longest that a server's Retry-After can make us take.
const MAX_PAUSE: Duration = Duration::from_secs(10);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Counts attempts in a row that brought nothing.
#[derive(Debug)]
pub(crate) struct Attempts {
    made: u32,
    most: u32,
    base: Duration,
}

impl Attempts {
    pub(crate) fn new(most: u32, base: Duration) -> Self {
        Self { made: 0, most: most.max(1), base }
    }

    /// An attempt brought something: the remote works, though not for long at a time.
    pub(crate) fn progressed(&mut self) {
        self.made = 0;
    }

    /// The pause before the next attempt, or the error when there were enough.
    pub(crate) fn failed(
        &mut self,
        uri: &str,
        reason: String,
        after: Option<Duration>,
    ) -> Result<Duration, StorageError> {
        self.made = self.made.saturating_add(1);
        if self.made >= self.most {
            return Err(StorageError::Remote { uri: uri.to_owned(), attempts: self.made, reason });
        }
        let pause = after.map(|it| it.min(MAX_RETRY_AFTER)).unwrap_or_else(|| self.pause());
        tracing::debug!(uri, reason, attempt = self.made, ?pause, "a request failed");
        Ok(pause)
    }

    /// Doubles with each attempt; the upper half is random, so that clients do not come back
    /// together.
    fn pause(&self) -> Duration {
        let doublings = self.made.saturating_sub(1).min(16);
        let full = self.base.saturating_mul(1 << doublings).min(MAX_PAUSE);
        // The standard library seeds each hasher at random.
        let random = RandomState::new().hash_one(self.made) % 1000;
        full.mul_f64(0.5 + random as f64 / 2000.0)
    }
}

#[test]
fn pauses_grow_and_end() {
    let mut attempts = Attempts::new(4, Duration::from_millis(100));
    let mut failed = |after| attempts.failed("u", "why".to_owned(), after);
    for (low, high) in [(50, 100), (100, 200)] {
        let pause = failed(None).unwrap().as_millis();
        assert!((low..=high).contains(&pause), "{pause}");
    }
    assert_eq!(failed(Some(Duration::from_secs(3600))).unwrap(), MAX_RETRY_AFTER);
    let error = failed(None).unwrap_err().to_string();
    assert_eq!(error, "requests to `u` failed after 4 attempts: why");
}
