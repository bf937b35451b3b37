//! Counts bytes of one stage and tells the caller.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fetch::{Progress, Stage};

/// Shared by everything that works on one stage.
pub(crate) struct Meter<'a> {
    stage: Stage,
    done: AtomicU64,
    total: Option<u64>,
    report: &'a (dyn Fn(Progress) + Send + Sync),
}

impl<'a> Meter<'a> {
    pub(crate) fn new(
        stage: Stage,
        total: Option<u64>,
        report: &'a (dyn Fn(Progress) + Send + Sync),
    ) -> Self {
        let meter = Self { stage, done: AtomicU64::new(0), total, report };
        meter.add(0);
        meter
    }

    pub(crate) fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.tell(before.saturating_add(bytes));
    }

    /// Takes bytes back that have to be fetched again.
    pub(crate) fn lose(&self, bytes: u64) {
        let before = self.done.fetch_sub(bytes, Ordering::Relaxed);
        self.tell(before.saturating_sub(bytes));
    }

    fn tell(&self, done_bytes: u64) {
        (self.report)(Progress { stage: self.stage, done_bytes, total_bytes: self.total });
    }
}

#[cfg(test)]
impl Meter<'static> {
    pub(crate) fn silent() -> Self {
        Self::new(Stage::Verifying, None, &|_| {})
    }
}
