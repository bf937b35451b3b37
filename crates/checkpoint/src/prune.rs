//! Removing old checkpoints, and chunks that nothing needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use crate::error::{self, CheckpointError};
use crate::guard::{self, Lock};
use crate::lazily::lazily;
use crate::store::{Step, StepId, Store};
use crate::{chunk, keys};

/// Chunks that no manifest names are perhaps of an upload that is under way, or that goes on after a
/// restart.
const ORPHAN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Chunks deleted between two looks at the lock's age.
const BATCH: usize = 64;

/// What to keep.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Whole checkpoints to keep, at least one.
    pub keep: usize,
    /// Say what would be removed, and remove nothing.
    pub dry_run: bool,
    /// Remove manifests that cannot be read. While there are any, no chunk is removed, because it may
    /// be theirs.
    pub remove_broken: bool,
    /// Checkpoints that were found damaged, so that they do not count as kept.
    pub damaged: BTreeSet<StepId>,
}

impl PruneOptions {
    pub fn keep(keep: usize) -> Self {
        Self { keep, dry_run: false, remove_broken: false, damaged: BTreeSet::new() }
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Checkpoints; none while `is_busy`.
    pub removed: Vec<StepId>,
    pub removed_chunks: usize,
    pub freed_bytes: u64,
    /// Another process publishes or removes at the moment, or it was told to stop: not all was done.
    pub is_busy: bool,
    /// Manifests that cannot be read; no chunk was removed because of them.
    pub broken: Vec<String>,
}

impl Store {
    /// Keeps the newest whole checkpoints, and removes all others that are older, with their chunks.
    /// The newest whole one is never removed. May run beside uploads of other processes.
    pub async fn prune(&self, options: &PruneOptions) -> Result<Pruned, CheckpointError> {
        self.prune_until(options, &CancellationToken::new()).await
    }

    /// The same, until it is told to stop: it ends within a few requests then, and others have the store.
    /// Where the future is dropped instead, its lock keeps everybody from publishing for some minutes,
    /// since nobody knows what it was about to remove.
    pub async fn prune_until(
        &self,
        options: &PruneOptions,
        stop: &CancellationToken,
    ) -> Result<Pruned, CheckpointError> {
        let busy = || Pruned { is_busy: true, ..Pruned::default() };
        let Some(mut lock) = guard::sweep(self, stop).await? else { return Ok(busy()) };
        let pruned = self.prune_under(&mut lock, options, stop).await;
        lock.release().await;
        Ok(pruned?.unwrap_or_else(busy))
    }

    async fn prune_under(
        &self,
        lock: &mut Lock<'_>,
        options: &PruneOptions,
        stop: &CancellationToken,
    ) -> Result<Option<Pruned>, CheckpointError> {
        let listed = self.objects.list(keys::CHUNKS).await;
        let listed = listed.map_err(error::store("list the store's chunks"))?;
        let catalogue = self.catalogue().await?;
        let mut chunks: BTreeMap<&str, (u64, SystemTime)> = BTreeMap::new();
        for object in &listed {
            let name = object.key.rsplit('/').next().unwrap_or_default();
            if chunk::is_sha256(name) {
                chunks.insert(name, (object.bytes, object.modified));
            }
        }
        let is_whole = |step: &Step| {
            let mut slices = step.parts.values().flat_map(|part| part.slices());
            step.is_complete()
                && !options.damaged.contains(&step.id)
                && slices.all(|it| chunks.get(it.sha256).is_some_and(|held| held.0 == it.bytes))
        };
        let judged: Vec<(&Step, bool)> =
            catalogue.steps.iter().map(|step| (step, is_whole(step))).collect();
        let removed = choose(&judged, options.keep);
        let mut pruned = Pruned {
            removed: removed.iter().map(|step| step.id.clone()).collect(),
            broken: catalogue
                .broken
                .iter()
                .map(|it| format!("{}: {}", it.key, it.reason))
                .collect(),
            ..Pruned::default()
        };
        let ids: BTreeSet<(&StepId, u32)> =
            removed.iter().map(|step| (&step.id, step.of)).collect();
        let hashes = |is_removed: bool| {
            let steps = catalogue.steps.iter();
            let steps = steps.filter(move |it| ids.contains(&(&it.id, it.of)) == is_removed);
            let slices = steps.flat_map(|step| step.parts.values().flat_map(|part| part.slices()));
            slices.map(|slice| slice.sha256).collect::<BTreeSet<&str>>()
        };
        let (needed, dropped) = (hashes.clone()(false), hashes(true));
        let mut manifests: Vec<String> = removed.iter().flat_map(|step| step.keys()).collect();
        if options.remove_broken {
            manifests.extend(catalogue.broken.iter().map(|it| it.key.clone()));
            pruned.broken.clear();
        }
        let now = listed.iter().map(|object| object.modified).max();
        let is_garbage = |name: &str, modified: SystemTime| {
            let age = now.and_then(|now| now.duration_since(modified).ok()).unwrap_or_default();
            !needed.contains(name) && (dropped.contains(name) || age > ORPHAN_LIFE)
        };
        let garbage: Vec<(&str, u64)> = match pruned.broken.is_empty() {
            true => chunks
                .iter()
                .filter(|(name, held)| is_garbage(name, held.1))
                .map(|(name, held)| (*name, held.0))
                .collect(),
            false => Vec::new(),
        };
        pruned.removed_chunks = garbage.len();
        pruned.freed_bytes = garbage.iter().fold(0, |sum, it| sum.saturating_add(it.1));
        if options.dry_run {
            return Ok(Some(pruned));
        }
        // Manifests go first: one without its chunks would be a checkpoint that cannot be restored.
        let garbage = garbage.iter().map(|(name, _)| keys::chunk(name)).collect();
        for keys in [manifests, garbage] {
            if !self.remove(lock, keys, stop).await? {
                return Ok(None);
            }
        }
        self.tidy().await?;
        Ok(Some(pruned))
    }

    /// Whether all were removed before it was told to stop.
    async fn remove(
        &self,
        lock: &mut Lock<'_>,
        keys: Vec<String>,
        stop: &CancellationToken,
    ) -> Result<bool, CheckpointError> {
        for batch in keys.chunks(BATCH) {
            if stop.is_cancelled() {
                return Ok(false);
            }
            if !lock.is_fresh() {
                // Void perhaps, so somebody may have begun to publish.
                return Err(CheckpointError::Busy { uri: self.uri().to_owned(), seconds: 0 });
            }
            let deletions = batch.iter().map(|key| {
                async move {
                    let deleted = self.objects.delete(key).await;
                    deleted.map_err(error::store(format!("delete `{key}`")))
                }
                .boxed()
            });
            lazily(deletions)
                .buffer_unordered(self.tuning.parallel)
                .try_for_each(|()| std::future::ready(Ok(())))
                .await?;
            lock.renew().await?;
        }
        Ok(true)
    }

    /// Removes what killed processes left: locks, and files on their way.
    async fn tidy(&self) -> Result<(), CheckpointError> {
        let locks = self.objects.list(keys::LOCKS).await.map_err(error::store("list locks"))?;
        let now = locks.iter().map(|object| object.modified).max();
        let staged = self.objects.list(keys::STAGING).await;
        let staged = staged.map_err(error::store("list leftovers"))?;
        for object in locks.iter().chain(&staged) {
            let age = now.and_then(|now| now.duration_since(object.modified).ok());
            if age.is_some_and(|age| age > ORPHAN_LIFE) {
                let deleted = self.objects.delete(&object.key).await;
                deleted.map_err(error::store(format!("delete `{}`", object.key)))?;
            }
        }
        Ok(())
    }
}

/// Which checkpoints go. The newest comes first; `true` is one that is whole.
fn choose<'a>(steps: &[(&'a Step, bool)], keep: usize) -> Vec<&'a Step> {
    let mut whole = 0;
    let mut removed = Vec::new();
    for (step, is_whole) in steps {
        // One that is not whole, and newer than all that are, may be under way.
        let goes = match is_whole {
            true => whole >= keep.max(1),
            false => whole > 0,
        };
        whole += usize::from(*is_whole);
        if goes {
            removed.push(*step);
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(name: &str) -> Step {
        let id = StepId { name: name.to_owned(), label: String::new() };
        Step { id, of: 1, parts: BTreeMap::new() }
    }

    #[track_caller]
    fn check(steps: &str, keep: usize, expected: &str) {
        let all: Vec<Step> = steps.chars().map(|c| step(&c.to_string())).collect();
        let judged: Vec<_> =
            all.iter().map(|it| (it, it.id.name.chars().all(char::is_uppercase))).collect();
        let removed: String = choose(&judged, keep).iter().map(|it| it.id.name.as_str()).collect();
        assert_eq!(removed, expected, "{steps} keep {keep}");
    }

    #[test]
    fn table() {
        // The newest first; capitals are whole.
        check("", 3, "");
        check("AB", 3, "");
        check("ABCD", 3, "D");
        check("ABCD", 1, "BCD");
        check("ABCD", 0, "BCD");
        check("aBCD", 2, "D");
        check("aBcD", 2, "c");
        check("abc", 1, "");
        check("abcD", 1, "");
    }

    proptest! {
        #[test]
        fn the_newest_whole_one_stays(whole in proptest::collection::vec(any::<bool>(), 0..9), keep in 0usize..4) {
            let all: Vec<Step> = (0..whole.len()).map(|n| step(&n.to_string())).collect();
            let judged: Vec<_> = all.iter().zip(whole.iter().copied()).collect();
            let removed = choose(&judged, keep);
            let left = judged.iter().filter(|it| !removed.iter().any(|gone| gone.id == it.0.id));
            let left: Vec<_> = left.collect();
            let newest = judged.iter().find(|it| it.1);
            prop_assert!(newest.is_none_or(|it| left.iter().any(|stays| stays.0.id == it.0.id)));
            let kept = left.iter().filter(|it| it.1).count();
            prop_assert_eq!(kept, whole.iter().filter(|it| **it).count().min(keep.max(1)));
        }
    }
}
