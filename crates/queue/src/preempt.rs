//! Who has to make room for a workload that does not fit.
//!
//! Victims are taken in one order until there is room, and each that turns out not to be needed is
//! let off; where even all of them would not make room, nobody is pushed out.

use std::time::Duration;

use crate::cohort::{Cohort, Demand, Running};
use crate::decision::Because;
use crate::ledger::Ledger;
use crate::queue::{BorrowWithinCohort, ReclaimWithinCohort, WithinQueue};

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) queue: usize,
    pub(crate) name: &'a str,
    pub(crate) priority: i32,
    pub(crate) created: Duration,
    pub(crate) demand: Demand,
}

/// A workload that has to go: its place among those that run, and why.
pub(crate) type Victim = (usize, Because);

/// A smallest set of workloads without which the asker fits; none if there is no such set. `spared`
/// says which are out of the question, since they leave already.
pub(crate) fn victims(
    cohort: &Cohort<'_>,
    planned: &Ledger,
    (running, spared): (&[Running<'_>], &[bool]),
    asker: &Asker<'_>,
) -> Option<Vec<Victim>> {
    let lacking = planned.lacking(cohort, asker.queue, &asker.demand);
    let lacking = lacking.map(|(cell, ..)| cell).collect();
    let search = Search { cohort, planned, running, spared, asker, lacking };
    if !search.may_preempt() {
        return None;
    }
    match cohort.is_fair {
        true => search.by_share(),
        false => search.by_priority(),
    }
}

struct Search<'s, 'a> {
    cohort: &'s Cohort<'a>,
    planned: &'s Ledger,
    running: &'s [Running<'a>],
    spared: &'s [bool],
    asker: &'s Asker<'s>,
    /// Cells of which too little is left.
    lacking: Vec<usize>,
}

impl Search<'_, '_> {
    /// Whether it asks for no more than its queue's own, or may push out others although it borrows.
    fn may_preempt(&self) -> bool {
        let preemption = &self.cohort.queues[self.asker.queue].preemption;
        let while_borrowing = match self.cohort.is_fair {
            true => preemption.reclaim_within_cohort != ReclaimWithinCohort::Never,
            false => preemption.borrow_within_cohort != BorrowWithinCohort::Never,
        };
        while_borrowing
            || self.asker.demand.cells().all(|(cell, _, amount)| {
                let quota = self.cohort.quota(self.asker.queue, cell);
                quota.is_none_or(|quota| amount <= quota.nominal)
            })
    }

    fn is_mine(&self, place: usize) -> bool {
        self.running[place].queue == self.asker.queue
    }

    /// Whether it uses something that is lacking, and the policy lets it be pushed out.
    fn is_candidate(&self, place: usize) -> bool {
        let item = &self.running[place];
        if self.spared[place] || !self.helps(item) {
            return false;
        }
        let preemption = &self.cohort.queues[self.asker.queue].preemption;
        let is_lower = item.priority < self.asker.priority;
        if self.is_mine(place) {
            let is_newer = item.priority == self.asker.priority
                && (item.created, item.name) > (self.asker.created, self.asker.name);
            return match preemption.within_queue {
                WithinQueue::Never => false,
                WithinQueue::LowerPriority => is_lower,
                WithinQueue::LowerOrNewerEqualPriority => is_lower || is_newer,
            };
        }
        match preemption.reclaim_within_cohort {
            ReclaimWithinCohort::Never => false,
            ReclaimWithinCohort::LowerPriority => is_lower && self.borrows(self.planned, place),
            ReclaimWithinCohort::Any => self.borrows(self.planned, place),
        }
    }

    fn helps(&self, item: &Running<'_>) -> bool {
        item.demand.cells().any(|(cell, ..)| {
            self.lacking.contains(&cell) && self.cohort.quota(item.queue, cell).is_some()
        })
    }

    /// Whether its queue uses more than its own of something that is lacking.
    fn borrows(&self, ledger: &Ledger, place: usize) -> bool {
        let queue = self.running[place].queue;
        self.lacking.iter().any(|cell| ledger.borrows(self.cohort, queue, *cell))
    }

    fn fits(&self, ledger: &Ledger, may_borrow: bool) -> bool {
        let Asker { queue, demand, .. } = self.asker;
        ledger.fits(self.cohort, *queue, demand)
            && (may_borrow || !ledger.would_borrow(self.cohort, *queue, demand))
    }

    /// Other queues first, then the least important, then who has lost least.
    fn candidates(&self) -> Vec<usize> {
        let running = self.running;
        let places = 0..running.len();
        let mut found: Vec<usize> = places.filter(|place| self.is_candidate(*place)).collect();
        found.sort_by(|a, b| {
            let key = |place: &usize| (self.is_mine(*place), running[*place].priority);
            let (first, second) = (&running[*a], &running[*b]);
            key(a)
                .cmp(&key(b))
                .then(second.since.cmp(&first.since))
                // Who was let in last.
                .then(b.cmp(a))
        });
        found
    }

    fn by_priority(&self) -> Option<Vec<Victim>> {
        let all = self.candidates();
        let mine = || all.iter().copied().filter(|place| self.is_mine(*place)).collect::<Vec<_>>();
        if mine().len() == all.len() {
            return self.smallest(&all, true, None);
        }
        let Asker { queue, priority, .. } = self.asker;
        // What its queue uses is at or below its own where something is lacking.
        let is_under = !self.lacking.iter().any(|cell| {
            let quota = self.cohort.quota(*queue, *cell);
            quota.is_some_and(|it| self.planned.used(self.cohort, *queue, *cell) >= it.nominal)
        });
        let preemption = &self.cohort.queues[*queue].preemption;
        if let BorrowWithinCohort::LowerPriority { max_priority } = preemption.borrow_within_cohort
        {
            let threshold =
                max_priority.map_or(*priority, |most| most.saturating_add(1).min(*priority));
            let below = |place: &usize| {
                self.is_mine(*place) || is_under || self.running[*place].priority < threshold
            };
            let chosen: Vec<usize> = all.into_iter().filter(below).collect();
            return self.smallest(&chosen, true, Some(threshold));
        }
        if is_under && let Some(found) = self.smallest(&all, false, None) {
            return Some(found);
        }
        self.smallest(&mine(), true, None)
    }

    /// Takes candidates in their order until there is room, then lets off who is not needed. With a
    /// threshold, who takes one at or above it from another queue may not borrow.
    fn smallest(
        &self,
        candidates: &[usize],
        mut may_borrow: bool,
        threshold: Option<i32>,
    ) -> Option<Vec<Victim>> {
        let mut ledger = self.planned.clone();
        let mut chosen = Vec::new();
        let mut has_room = false;
        for place in candidates {
            let item = &self.running[*place];
            if !self.is_mine(*place) {
                if !self.borrows(&ledger, *place) {
                    continue;
                }
                if threshold.is_some_and(|threshold| item.priority >= threshold) {
                    may_borrow = false;
                }
            }
            ledger.remove(self.cohort, item.queue, &item.demand);
            chosen.push(*place);
            if self.fits(&ledger, may_borrow) {
                has_room = true;
                break;
            }
        }
        if !has_room {
            return None;
        }
        let borrows = ledger.would_borrow(self.cohort, self.asker.queue, &self.asker.demand);
        let because = |place: usize| match (self.is_mine(place), borrows) {
            (true, _) => Because::Priority,
            (false, false) => Because::Reclaimed,
            (false, true) => Because::BorrowedForPriority,
        };
        let chosen = chosen.into_iter().map(|place| (place, because(place))).collect();
        Some(self.let_off(ledger, chosen, may_borrow))
    }

    /// Leaves out each that is not needed, the last that was taken first.
    fn let_off(
        &self,
        mut ledger: Ledger,
        mut chosen: Vec<Victim>,
        may_borrow: bool,
    ) -> Vec<Victim> {
        for at in (0..chosen.len()).rev() {
            let item = &self.running[chosen[at].0];
            ledger.add(self.cohort, item.queue, &item.demand);
            if self.fits(&ledger, may_borrow) {
                chosen.remove(at);
            } else {
                ledger.remove(self.cohort, item.queue, &item.demand);
            }
        }
        chosen
    }

    /// Takes from the queue with the largest share first. A workload of another queue goes if that
    /// queue then still has at least the share that the asker's queue gets; where that is not enough,
    /// if it had a larger one before.
    fn by_share(&self) -> Option<Vec<Victim>> {
        let Asker { queue, demand, .. } = self.asker;
        let mut ledger = self.planned.clone();
        let mut lines: Vec<Vec<usize>> = vec![Vec::new(); self.cohort.queues.len()];
        for place in self.candidates().into_iter().rev() {
            lines[self.running[place].queue].push(place);
        }
        let (mut chosen, mut second): (Vec<Victim>, Vec<usize>) = (Vec::new(), Vec::new());
        while let Some(line) = self.largest(&ledger, &lines) {
            let Some(place) = lines[line].pop() else { break };
            let item = &self.running[place];
            if line == *queue {
                ledger.remove(self.cohort, line, &item.demand);
                chosen.push((place, Because::Priority));
            } else if self.borrows(&ledger, place) {
                let asks = ledger.share(self.cohort, *queue, Some(demand));
                ledger.remove(self.cohort, line, &item.demand);
                if asks > ledger.share(self.cohort, line, None) {
                    ledger.add(self.cohort, line, &item.demand);
                    second.push(place);
                    continue;
                }
                let reclaims = !ledger.would_borrow(self.cohort, *queue, demand);
                let because = if reclaims { Because::Reclaimed } else { Because::FairShare };
                chosen.push((place, because));
            } else {
                continue;
            }
            if self.fits(&ledger, true) {
                return Some(self.let_off(ledger, chosen, true));
            }
        }
        for place in second {
            let item = &self.running[place];
            let asks = ledger.share(self.cohort, *queue, Some(demand));
            if !self.borrows(&ledger, place) || asks >= ledger.share(self.cohort, item.queue, None)
            {
                continue;
            }
            ledger.remove(self.cohort, item.queue, &item.demand);
            chosen.push((place, Because::FairShare));
            if self.fits(&ledger, true) {
                return Some(self.let_off(ledger, chosen, true));
            }
        }
        None
    }

    /// The queue with candidates left and the largest share; of equals the first by name.
    fn largest(&self, ledger: &Ledger, lines: &[Vec<usize>]) -> Option<usize> {
        let with_any = (0..lines.len()).filter(|line| !lines[*line].is_empty());
        with_any.max_by_key(|line| {
            let with = (*line == self.asker.queue).then_some(&self.asker.demand);
            (ledger.share(self.cohort, *line, with), std::cmp::Reverse(*line))
        })
    }
}
