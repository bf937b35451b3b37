//! Decides which model a free compute thread serves next.
//!
//! Each model has an account of the compute time it got; the ready model with the least is next. So
//! a model whose runs take 100 ms gets a tenth as many turns as one whose runs take 10 ms, and
//! neither waits for more than the other's current runs. A run is charged when it starts, with what
//! it is expected to take, and settled when it ends: otherwise a slow model would be given all
//! threads before its first run has ended. A model that was idle has saved nothing: it starts
//! level with the model that was served last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Names one model among those that share the threads.
pub(crate) type Id = u64;

#[derive(Debug, Default)]
pub(crate) struct Fair {
    accounts: BTreeMap<Id, Account>,
    /// By time spent, then id.
    ready: BTreeSet<(Duration, Id)>,
    timers: BTreeSet<(Instant, Id)>,
    /// What the model that was served last had spent before: where idle ones start again.
    level: Duration,
}

#[derive(Debug, Default)]
struct Account {
    spent: Duration,
    ready: bool,
    timer: Option<Instant>,
    running: usize,
}

/// Turns of unknown length cost this, so that unmeasured models take turns too.
const LEAST_CHARGE: Duration = Duration::from_micros(1);

impl Fair {
    pub(crate) fn add(&mut self, id: Id) {
        self.accounts.insert(id, Account { spent: self.level, ..Account::default() });
    }

    pub(crate) fn remove(&mut self, id: Id) {
        if let Some(account) = self.accounts.remove(&id) {
            self.ready.remove(&(account.spent, id));
            if let Some(at) = account.timer {
                self.timers.remove(&(at, id));
            }
        }
    }

    /// The model may have something to run.
    pub(crate) fn mark_ready(&mut self, id: Id) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        if account.ready {
            return;
        }
        if account.running == 0 {
            account.spent = account.spent.max(self.level);
        }
        account.ready = true;
        self.ready.insert((account.spent, id));
    }

    /// The model will have something to run then. The earlier of two timers stays: two threads that
    /// asked the model may come here in the other order, and asking once too often does no harm.
    pub(crate) fn set_timer(&mut self, id: Id, at: Instant) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        if account.timer.is_some_and(|old| old <= at) {
            return;
        }
        if let Some(old) = account.timer.replace(at) {
            self.timers.remove(&(old, id));
        }
        self.timers.insert((at, id));
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The model whose turn it is, if one is ready.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Id> {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.remove(&(at, id));
            if let Some(account) = self.accounts.get_mut(&id) {
                account.timer = None;
            }
            self.mark_ready(id);
        }
        let (spent, id) = self.ready.pop_first()?;
        self.level = self.level.max(spent);
        if let Some(account) = self.accounts.get_mut(&id) {
            account.ready = false;
        }
        Some(id)
    }

    /// A run starts that is expected to take so long; returns what was charged.
    pub(crate) fn start(&mut self, id: Id, expected: Duration) -> Duration {
        let charge = expected.max(LEAST_CHARGE);
        self.spend(id, |spent| spent.saturating_add(charge));
        if let Some(account) = self.accounts.get_mut(&id) {
            account.running += 1;
        }
        charge
    }

    /// A run ended that was charged `charge` and took `took`.
    pub(crate) fn end(&mut self, id: Id, charge: Duration, took: Duration) {
        let took = took.max(LEAST_CHARGE);
        self.spend(id, |spent| spent.saturating_sub(charge).saturating_add(took));
        if let Some(account) = self.accounts.get_mut(&id) {
            account.running = account.running.saturating_sub(1);
        }
    }

    fn spend(&mut self, id: Id, change: impl FnOnce(Duration) -> Duration) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        let was_ready = self.ready.remove(&(account.spent, id));
        account.spent = change(account.spent);
        if was_ready {
            self.ready.insert((account.spent, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Serves models that always have work on one thread; returns the turns of each.
    fn serve(costs: &[u32], turns: usize) -> Vec<usize> {
        let (mut fair, now) = (Fair::default(), Instant::now());
        let mut served = vec![0; costs.len()];
        for id in 0..costs.len() as Id {
            fair.add(id);
            fair.mark_ready(id);
        }
        for _ in 0..turns {
            let id = fair.next(now).expect("all are ready");
            let charge = fair.start(id, MS);
            fair.mark_ready(id);
            fair.end(id, charge, MS * costs[id as usize]);
            served[id as usize] += 1;
        }
        served
    }

    #[test]
    fn time_is_shared_and_not_turns() {
        assert_eq!(serve(&[1, 1], 20), [10, 10]);
        let served = serve(&[10, 1], 110);
        assert!((9..=11).contains(&served[0]), "{served:?}");
        let served = serve(&[100, 10, 1], 1110);
        assert!((9..=11).contains(&served[0]), "{served:?}");
        assert!((98..=102).contains(&served[1]), "{served:?}");
    }

    #[test]
    fn a_running_model_is_behind_one_that_waits() {
        let (mut fair, now) = (Fair::default(), Instant::now());
        fair.add(1);
        fair.add(2);
        fair.mark_ready(1);
        assert_eq!(fair.next(now), Some(1));
        fair.start(1, MS * 100);
        fair.mark_ready(1);
        fair.mark_ready(2);
        assert_eq!(fair.next(now), Some(2));
    }

    #[test]
    fn idle_time_is_not_saved() {
        let (mut fair, now) = (Fair::default(), Instant::now());
        fair.add(1);
        fair.add(2);
        for _ in 0..50 {
            fair.mark_ready(1);
            assert_eq!(fair.next(now), Some(1));
            let charge = fair.start(1, MS);
            fair.end(1, charge, MS);
        }
        let mut turns = [0; 3];
        for id in [1, 2].repeat(10) {
            fair.mark_ready(id);
            let next = fair.next(now).expect("ready");
            turns[next as usize] += 1;
            let charge = fair.start(next, MS);
            fair.mark_ready(next);
            fair.end(next, charge, MS);
        }
        assert!(turns[1] >= 9, "{turns:?}");
    }

    #[test]
    fn timers_make_ready_and_removal_forgets() {
        let (mut fair, now) = (Fair::default(), Instant::now());
        fair.add(1);
        fair.set_timer(1, now + MS * 2);
        fair.set_timer(1, now + MS);
        fair.set_timer(1, now + MS * 3);
        assert_eq!(fair.next_timer(), Some(now + MS));
        assert_eq!(fair.next(now), None);
        assert_eq!(fair.next(now + MS), Some(1));
        assert_eq!(fair.next_timer(), None);
        fair.set_timer(1, now + MS);
        fair.mark_ready(1);
        fair.remove(1);
        assert_eq!(fair.next(now + MS), None);
        assert!(fair.timers.is_empty());
    }
}
