//! Keeps who removes chunks away from who publishes a manifest that needs them.
//!
//! Who removes writes a lock that says what it is about to remove, and who publishes one that says no
//! more than that; only then does each look for the other's. Stores show what was written to every later
//! list, so at least one of the two sees the other. A sweeper that sees a publisher gives up until later.
//! A publisher that sees a sweeper waits for it only if the sweeper is about to remove something that it
//! needs, which is rare: content that only old checkpoints have. Nothing else is exclusive: uploads run
//! beside everything, because a publisher looks under its lock whether all its chunks are there and
//! writes those that are not; and a sweeper, when it has seen that nobody publishes, looks once more what
//! is needed, and removes what it has announced and is still not needed.
//!
//! A lock of a process that was killed is void after [`LIFE`], by the store's clock alone: a request to
//! remove something may be under way for as long. Who holds one does nothing with it after half that
//! time, by its own clock.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trainyard_storage::StorageError;
use trainyard_storage::objects::Object;

use crate::error::{self, CheckpointError};
use crate::keys;
use crate::store::Store;

pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// Between two looks of a publisher that waits.
const PAUSE: Duration = Duration::from_millis(250);

/// Keys that one sweep announces, and so the most that it removes: of chunks of the usual size 16 TB.
pub(crate) const MAX_KEYS: usize = 1 << 20;
/// A list of as many has so many bytes.
const MAX_BYTES: u64 = 32 << 20;

const PUBLISH: &str = "publish";
const SWEEP: &str = "sweep";
/// How a lock begins that says what is removed.
const REMOVES: &str = "removes\n";

pub(crate) struct Lock<'a> {
    store: &'a Store,
    key: String,
    content: Bytes,
    taken: Instant,
}

/// Keys of the store, each by the first 8 bytes of its SHA-256: two that are taken for the same cost a
/// wait, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys(BTreeSet<u64>);

impl Keys {
    pub(crate) fn of<T: AsRef<str>>(keys: impl IntoIterator<Item = T>) -> Self {
        let digest = |key: T| {
            let digest = Sha256::digest(key.as_ref());
            digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Self(keys.into_iter().map(digest).collect())
    }

    /// A line of 16 digits for each, after [`REMOVES`].
    fn to_bytes(&self) -> Bytes {
        let mut text = REMOVES.to_owned();
        for number in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{number:016x}");
        }
        text.into()
    }

    /// `None` where it is no list: of a process that knew none, or nonsense.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |line: &str| {
            let is_number = line.len() == 16 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_number.then(|| u64::from_str_radix(line, 16).ok()).flatten()
        };
        let lines = std::str::from_utf8(bytes).ok()?.strip_prefix(REMOVES)?.lines();
        lines.map(number).collect::<Option<_>>().map(Self)
    }

    fn has_any_of(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }
}

/// A name that no other process or call makes.
pub(crate) fn unique() -> String {
    // The standard library seeds each hasher at random.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

/// Waits until nobody removes any of these, and keeps everybody from it.
pub(crate) async fn publish<'a>(
    store: &'a Store,
    needed: &Keys,
) -> Result<Lock<'a>, CheckpointError> {
    let mut lock = Lock::take(store, PUBLISH, Bytes::from_static(b"held\n")).await?;
    let began = Instant::now();
    while lock.sees_removed(needed).await? {
        if began.elapsed() > LIFE.saturating_mul(2) {
            lock.release().await;
            let (uri, seconds) = (store.uri().to_owned(), began.elapsed().as_secs());
            return Err(CheckpointError::Busy { uri, seconds });
        }
        sleep(PAUSE).await;
        if !lock.is_fresh() {
            lock.renew().await?;
        }
    }
    Ok(lock)
}

/// The right to remove of these what is not needed when it is given; `None` while somebody publishes or
/// removes, and when it is told to stop.
pub(crate) async fn sweep<'a>(
    store: &'a Store,
    removed: &Keys,
    stop: &CancellationToken,
) -> Result<Option<Lock<'a>>, CheckpointError> {
    let visibility = store.objects.visibility();
    let lock = Lock::take(store, SWEEP, removed.to_bytes()).await?;
    let look = async {
        // One wait until a publisher that looks now sees this lock, one until this look sees the lock of
        // a publisher that looked before.
        sleep(visibility.saturating_mul(2)).await;
        let others = lock.others(&[SWEEP, PUBLISH]).await?;
        // One more until what was published just before that look is seen.
        sleep(visibility).await;
        Ok(others.is_empty())
    };
    match stop.run_until_cancelled(look).await {
        Some(Ok(true)) => Ok(Some(lock)),
        Some(Ok(false)) | None => {
            lock.release().await;
            Ok(None)
        }
        Some(Err(error)) => {
            lock.release().await;
            Err(error)
        }
    }
}

impl<'a> Lock<'a> {
    async fn take(store: &'a Store, kind: &str, content: Bytes) -> Result<Self, CheckpointError> {
        let key = format!("{}/{kind}-{}", keys::LOCKS, unique());
        let mut lock = Self { store, key, content, taken: Instant::now() };
        lock.renew().await?;
        Ok(lock)
    }

    /// Counts its age from before it is written, so that it is never taken for younger than it is.
    pub(crate) async fn renew(&mut self) -> Result<(), CheckpointError> {
        let now = Instant::now();
        let put = self.store.objects.put(&self.key, self.content.clone()).await;
        put.map_err(error::store("write a lock"))?;
        self.taken = now;
        Ok(())
    }

    /// Whether something may still be done under it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.taken.elapsed() < LIFE / 2
    }

    /// Whether it may be near its end, so that who goes on for long writes it anew.
    pub(crate) fn is_due(&self) -> bool {
        self.taken.elapsed() > LIFE / 8
    }

    /// The keys of other locks of these kinds that are held.
    async fn others(&self, kinds: &[&str]) -> Result<Vec<String>, CheckpointError> {
        let locks = self.store.objects.list(keys::LOCKS).await;
        let locks = locks.map_err(error::store("list locks"))?;
        // The store's clock: that of its newest entry, ours at the latest.
        let Some(now) = locks.iter().map(|lock| lock.modified).max() else { return Ok(Vec::new()) };
        let is_held = |lock: &Object| {
            let name = lock.key.rsplit('/').next().unwrap_or_default();
            let age = now.duration_since(lock.modified).unwrap_or_default();
            lock.key != self.key && age < LIFE && kinds.iter().any(|kind| name.starts_with(kind))
        };
        Ok(locks.into_iter().filter(is_held).map(|lock| lock.key).collect())
    }

    /// Whether somebody removes any of these, or does not say what.
    async fn sees_removed(&self, needed: &Keys) -> Result<bool, CheckpointError> {
        for key in self.others(&[SWEEP]).await? {
            let removed = match self.store.objects.get(&key, MAX_BYTES).await {
                Ok(content) => Keys::parse(&content),
                // It was released since.
                Err(StorageError::NotFound { .. }) => continue,
                Err(StorageError::Object { .. }) => None,
                Err(error) => return Err(error::store("read a lock")(error)),
            };
            if removed.is_none_or(|removed| removed.has_any_of(needed)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What cannot be deleted is void after a while.
    pub(crate) async fn release(self) {
        if let Err(error) = self.store.objects.delete(&self.key).await {
            tracing::debug!(%error, key = self.key, "a lock stays until it is void");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_list_may_be_anything() {
        let parse = |text: &str| Keys::parse(text.as_bytes());
        assert_eq!(parse("removes\n"), Some(Keys::default()));
        assert_eq!(parse("removes\n00000000000000ff\n"), Some(Keys([255].into())));
        for text in
            ["", "held\n", "removes", "removes\nff\n", "removes\n+00000000000000f\n", "removes\n\n"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn lists_come_back(keys in proptest::collection::btree_set("[a-z/]{1,9}", 0..20), one: prop::sample::Index) {
            let all = Keys::of(&keys);
            let parsed = Keys::parse(&all.to_bytes());
            prop_assert_eq!(parsed.as_ref(), Some(&all));
            let some = keys.iter().nth(one.index(keys.len().max(1)));
            prop_assert_eq!(all.has_any_of(&Keys::of(some)), some.is_some());
            prop_assert!(!all.has_any_of(&Keys::of(["0"])));
        }
    }
}
