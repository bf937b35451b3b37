//! Keeps who removes chunks away from who publishes a manifest that needs them.
//!
//! Both first write a lock, and only then look whether the other's is there. Stores show what was
//! written to every later list, so at least one of the two sees the other; a publisher then waits, and
//! a sweeper gives up until later. Nothing else is exclusive: uploads run beside everything, because
//! a publisher looks under its lock whether all its chunks are there and writes those that are not.
//!
//! A lock of a process that was killed is void after [`LIFE`], by the store's clock alone. Who holds
//! one does nothing with it after half that time, by its own clock.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::{self, CheckpointError};
use crate::keys;
use crate::store::Store;

pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// Between two looks of a publisher that waits.
const PAUSE: Duration = Duration::from_millis(250);

const PUBLISH: &str = "publish";
const SWEEP: &str = "sweep";

pub(crate) struct Lock<'a> {
    store: &'a Store,
    key: String,
    taken: Instant,
}

/// A name that no other process or call makes.
pub(crate) fn unique() -> String {
    // The standard library seeds each hasher at random.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

/// Waits until nobody removes chunks, and keeps them from it.
pub(crate) async fn publish(store: &Store) -> Result<Lock<'_>, CheckpointError> {
    let mut lock = Lock::take(store, PUBLISH).await?;
    let began = Instant::now();
    while lock.sees(&[SWEEP]).await? {
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

/// The right to remove chunks; `None` while somebody publishes or removes, and when it is told to stop.
pub(crate) async fn sweep<'a>(
    store: &'a Store,
    stop: &CancellationToken,
) -> Result<Option<Lock<'a>>, CheckpointError> {
    let lock = Lock::take(store, SWEEP).await?;
    // One wait until a publisher that looks now sees this lock, one until this look sees the lock of
    // a publisher that looked before.
    let wait = sleep(store.objects.visibility().saturating_mul(2));
    if stop.run_until_cancelled(wait).await.is_none() {
        lock.release().await;
        return Ok(None);
    }
    match lock.sees(&[SWEEP, PUBLISH]).await {
        Ok(false) => Ok(Some(lock)),
        Ok(true) => {
            lock.release().await;
            Ok(None)
        }
        Err(error) => {
            lock.release().await;
            Err(error)
        }
    }
}

impl<'a> Lock<'a> {
    async fn take(store: &'a Store, kind: &str) -> Result<Self, CheckpointError> {
        let key = format!("{}/{kind}-{}", keys::LOCKS, unique());
        let mut lock = Self { store, key, taken: Instant::now() };
        lock.renew().await?;
        Ok(lock)
    }

    /// Counts its age from before it is written, so that it is never taken for younger than it is.
    pub(crate) async fn renew(&mut self) -> Result<(), CheckpointError> {
        let now = Instant::now();
        let put = self.store.objects.put(&self.key, Bytes::from_static(b"held\n")).await;
        put.map_err(error::store("write a lock"))?;
        self.taken = now;
        Ok(())
    }

    /// Whether something may still be done under it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.taken.elapsed() < LIFE / 2
    }

    /// Whether another lock of these kinds is held.
    async fn sees(&self, kinds: &[&str]) -> Result<bool, CheckpointError> {
        let locks = self.store.objects.list(keys::LOCKS).await;
        let locks = locks.map_err(error::store("list locks"))?;
        // The store's clock: that of its newest entry, ours at the latest.
        let Some(now) = locks.iter().map(|lock| lock.modified).max() else { return Ok(false) };
        Ok(locks.iter().filter(|lock| lock.key != self.key).any(|lock| {
            let name = lock.key.rsplit('/').next().unwrap_or_default();
            let age = now.duration_since(lock.modified).unwrap_or_default();
            age < LIFE && kinds.iter().any(|kind| name.starts_with(kind))
        }))
    }

    /// What cannot be deleted is void after a while.
    pub(crate) async fn release(self) {
        if let Err(error) = self.store.objects.delete(&self.key).await {
            tracing::debug!(%error, key = self.key, "a lock stays until it is void");
        }
    }
}
