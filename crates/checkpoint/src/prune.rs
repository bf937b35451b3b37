//! Removing old checkpoints, and chunks that nothing needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use crate::error::{self, CheckpointError};
use crate::guard::{self, Keys, Lock};
use crate::lazily::lazily;
use crate::store::{Step, StepId, Store};
use crate::{chunk, keys};

/// Chunks that no manifest names are perhaps of an upload that is under way, or that goes on after a
/// restart.
const ORPHAN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Chunks deleted between two looks at the lock's age.
const BATCH: usize = 64;
/// What one that is told to stop may take for its last requests.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

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
    pub removed: Vec<StepId>,
    pub removed_chunks: usize,
    pub freed_bytes: u64,
    /// Another process publishes or removes at the moment, it was told to stop, or it was too much for one
    /// time: not all was done.
    pub is_busy: bool,
    /// Manifests that cannot be read; no chunk was removed because of them.
    pub broken: Vec<String>,
}

/// What is to be removed, by one look.
struct Plan {
    pruned: Pruned,
    manifests: BTreeSet<String>,
    /// Their bytes, by their keys.
    chunks: BTreeMap<String, u64>,
}

impl Plan {
    /// No more than one sweep may announce; manifests are as few as checkpoints.
    fn limit(&mut self) {
        let most = guard::MAX_KEYS.saturating_sub(self.manifests.len());
        if let Some(key) = self.chunks.keys().nth(most).cloned() {
            self.pruned.is_busy = true;
            self.chunks.split_off(&key);
        }
    }

    fn keys(&self) -> Keys {
        Keys::of(self.manifests.iter().chain(self.chunks.keys()))
    }

    /// What both looks say.
    fn both(mut self, other: &Self) -> Self {
        self.manifests.retain(|key| other.manifests.contains(key));
        self.chunks.retain(|key, _| other.chunks.contains_key(key));
        self.pruned.removed.retain(|id| other.pruned.removed.contains(id));
        self.pruned.is_busy |= other.pruned.is_busy;
        self.count()
    }

    fn count(mut self) -> Self {
        self.pruned.removed_chunks = self.chunks.len();
        self.pruned.freed_bytes = self.chunks.values().fold(0, |sum, it| sum.saturating_add(*it));
        self
    }
}

impl Store {
    /// Keeps the newest whole checkpoints, and removes all others that are older, with their chunks.
    /// The newest whole one is never removed. May run beside uploads of other processes.
    ///
    /// Where the future is dropped, nobody removes anything for some minutes, and who publishes what it
    /// was about to remove waits for as long.
    pub async fn prune(&self, options: &PruneOptions) -> Result<Pruned, CheckpointError> {
        self.prune_until(options, std::future::pending()).await
    }

    /// The same until another future ends, and a few requests longer.
    pub async fn prune_until(
        &self,
        options: &PruneOptions,
        enough: impl Future<Output = ()>,
    ) -> Result<Pruned, CheckpointError> {
        let stop = CancellationToken::new();
        let mut pruning = std::pin::pin!(self.prune_unless(options, &stop));
        tokio::select! {
            biased;
            () = enough => {}
            pruned = &mut pruning => return pruned,
        }
        stop.cancel();
        let ended = tokio::time::timeout(LAST_REQUESTS, pruning).await;
        ended.unwrap_or_else(|_| Ok(Pruned { is_busy: true, ..Pruned::default() }))
    }

    async fn prune_unless(
        &self,
        options: &PruneOptions,
        stop: &CancellationToken,
    ) -> Result<Pruned, CheckpointError> {
        let busy = || Pruned { is_busy: true, ..Pruned::default() };
        let Some(plan) = stop.run_until_cancelled(self.plan(options)).await else {
            return Ok(busy());
        };
        let mut plan = plan?;
        if options.dry_run {
            return Ok(plan.pruned);
        }
        let pruned = if plan.manifests.is_empty() && plan.chunks.is_empty() {
            plan.pruned
        } else {
            plan.limit();
            let lock = guard::sweep(self, &plan.keys(), stop).await?;
            let Some(mut lock) = lock else { return Ok(busy()) };
            let plan = match self.plan(options).await {
                Ok(now) => now.both(&plan),
                Err(error) => {
                    lock.release().await;
                    return Err(error);
                }
            };
            // Where a request fails, the store may still do what it asked for: the lock stays until that
            // cannot be any more.
            let is_done = self.remove(&mut lock, &plan, stop).await?;
            lock.release().await;
            if !is_done {
                return Ok(busy());
            }
            plan.pruned
        };
        self.tidy().await?;
        Ok(pruned)
    }

    async fn plan(&self, options: &PruneOptions) -> Result<Plan, CheckpointError> {
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
        let mut manifests: BTreeSet<String> = removed.iter().flat_map(|step| step.keys()).collect();
        if options.remove_broken {
            manifests.extend(catalogue.broken.iter().map(|it| it.key.clone()));
            pruned.broken.clear();
        }
        let now = listed.iter().map(|object| object.modified).max();
        let is_garbage = |name: &str, modified: SystemTime| {
            let age = now.and_then(|now| now.duration_since(modified).ok()).unwrap_or_default();
            !needed.contains(name) && (dropped.contains(name) || age > ORPHAN_LIFE)
        };
        let garbage = match pruned.broken.is_empty() {
            true => chunks
                .iter()
                .filter(|(name, held)| is_garbage(name, held.1))
                .map(|(name, held)| (keys::chunk(name), held.0))
                .collect(),
            false => BTreeMap::new(),
        };
        Ok(Plan { pruned, manifests, chunks: garbage }.count())
    }

    /// Whether all were removed before it was told to stop.
    async fn remove(
        &self,
        lock: &mut Lock<'_>,
        plan: &Plan,
        stop: &CancellationToken,
    ) -> Result<bool, CheckpointError> {
        // Manifests go first: one without its chunks would be a checkpoint that cannot be restored.
        let (manifests, chunks) = (plan.manifests.iter().collect(), plan.chunks.keys().collect());
        for keys in [manifests, chunks] {
            let keys: Vec<&String> = keys;
            for batch in keys.chunks(BATCH) {
                // Who stood still for minutes may have lost the lock, and somebody may publish.
                if stop.is_cancelled() || !lock.is_fresh() {
                    return Ok(false);
                }
                if lock.is_due() {
                    lock.renew().await?;
                }
                self.delete(batch).await?;
            }
        }
        Ok(true)
    }

    async fn delete(&self, keys: &[&String]) -> Result<(), CheckpointError> {
        let deletions = keys.iter().map(|key| {
            async move {
                let deleted = self.objects.delete(key).await;
                deleted.map_err(error::store(format!("delete `{key}`")))
            }
            .boxed()
        });
        let deletions = lazily(deletions).buffer_unordered(self.tuning.parallel);
        deletions.try_for_each(|()| std::future::ready(Ok(()))).await
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
