//! Metrics of all models, as `/metrics` shows them.
//!
//! A version's handles are resolved once, when it is loaded; requests only touch atomics. What is
//! shown is put together when it is asked for, so that a version leaves no trace once its scheduler
//! is dropped.

mod collector;
mod counters;
mod gpu;
mod histogram;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use collector::Collector;
use counters::Totals;
pub(crate) use counters::{Counters, Executed, Failure, Served};
pub(crate) use gpu::Nvml;

/// Metrics of all models, as `/metrics` shows them. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    versions: Arc<Versions>,
}

impl Metrics {
    pub fn new() -> Self {
        let versions = Arc::new(Versions::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Collector::new(Arc::clone(&versions))));
        Self { registry: Arc::new(Mutex::new(registry)), versions }
    }

    /// The registry, for metrics of other parts (requests by protocol, process, engine).
    pub fn with_registry<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// OpenMetrics text.
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }

    /// Shows the counters of one loaded version until the guard is dropped.
    pub(crate) fn show(&self, model: Arc<str>, version: u64) -> Shown {
        let counters = Arc::new(Counters::new());
        let key = (model, version);
        self.versions.lock().entry(key.clone()).or_default().live.push(Arc::clone(&counters));
        Shown { key, counters, versions: Arc::clone(&self.versions) }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Model and version.
type Key = (Arc<str>, u64);

#[derive(Debug, Default)]
struct Versions {
    entries: Mutex<BTreeMap<Key, Entry>>,
}

/// While a version is reloaded it is there twice under the same labels, and a counter must not fall
/// when the older one goes: what it counted stays as long as the newer lives.
#[derive(Debug, Default)]
struct Entry {
    live: Vec<Arc<Counters>>,
    retired: Totals,
}

impl Versions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a version's counters in what is shown.
pub(crate) struct Shown {
    key: Key,
    pub(crate) counters: Arc<Counters>,
    versions: Arc<Versions>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut entries = self.versions.lock();
        let Some(entry) = entries.get_mut(&self.key) else { return };
        entry.live.retain(|counters| !Arc::ptr_eq(counters, &self.counters));
        if entry.live.is_empty() {
            entries.remove(&self.key);
        } else {
            entry.retired.add(&self.counters.totals());
        }
    }
}

#[cfg(test)]
mod tests;
