//! Who has to make room for a workload that does not fit.
//!
//! Victims are taken in one order until there is room: first workers that a gang can do without, one
//! by one, then whole gangs. What turns out not to be needed is given back; where even all of them
//! would not make room, nobody is pushed out.

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

/// A workload that has to make room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Victim {
    /// Its place among those that run.
    pub(crate) place: usize,
    /// Workers that it keeps; none if it has to go.
    pub(crate) keeps: u32,
    pub(crate) because: Because,
}

/// As few workers as make the asker fit; none if not even all would. `spared` says who is out of the
/// question, since it leaves already.
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

    /// Takes workers of candidates in their order until there is room, then gives back what is not
    /// needed. With a threshold, who takes from one at or above it of another queue may not borrow.
    fn smallest(
        &self,
        candidates: &[usize],
        mut may_borrow: bool,
        threshold: Option<i32>,
    ) -> Option<Vec<Victim>> {
        let mut taken = Taken::new(self);
        for part in Part::ALL {
            for place in candidates {
                let item = &self.running[*place];
                let is_mine = self.is_mine(*place);
                if taken.is_nothing_left(*place, part)
                    || !is_mine && !self.borrows(&taken.ledger, *place)
                {
                    continue;
                }
                if !is_mine && threshold.is_some_and(|threshold| item.priority >= threshold) {
                    may_borrow = false;
                }
                let may_take = |ledger: &mut Ledger, demand: &Demand| {
                    let may_take = is_mine || self.borrows(ledger, *place);
                    if may_take {
                        ledger.remove(self.cohort, item.queue, demand);
                    }
                    may_take
                };
                taken.take((*place, part), may_borrow, Because::Priority, may_take);
                if !self.fits(&taken.ledger, may_borrow) {
                    continue;
                }
                let borrows =
                    taken.ledger.would_borrow(self.cohort, self.asker.queue, &self.asker.demand);
                for step in &mut taken.steps {
                    step.because = match (self.is_mine(step.place), borrows) {
                        (true, _) => Because::Priority,
                        (false, false) => Because::Reclaimed,
                        (false, true) => Because::BorrowedForPriority,
                    };
                }
                return Some(taken.give_back(may_borrow));
            }
        }
        None
    }

    /// Takes from the queue with the largest share first. Another queue gives if it then still has at
    /// least the share that the asker's queue gets; where that is not enough, if it had a larger one
    /// before.
    fn by_share(&self) -> Option<Vec<Victim>> {
        let Asker { queue, demand, .. } = self.asker;
        let mut candidates = self.candidates();
        candidates.reverse();
        let mut taken = Taken::new(self);
        let mut second: Vec<(usize, Part)> = Vec::new();
        for part in Part::ALL {
            let mut lines: Vec<Vec<usize>> = vec![Vec::new(); self.cohort.queues.len()];
            for place in candidates.iter().filter(|place| !taken.is_nothing_left(**place, part)) {
                lines[self.running[*place].queue].push(*place);
            }
            while let Some(line) = self.largest(&taken.ledger, &lines) {
                let Some(place) = lines[line].pop() else { break };
                let is_mine = line == *queue;
                if !is_mine && !self.borrows(&taken.ledger, place) {
                    continue;
                }
                let because = match taken.ledger.would_borrow(self.cohort, *queue, demand) {
                    _ if is_mine => Because::Priority,
                    false => Because::Reclaimed,
                    true => Because::FairShare,
                };
                let may_take = |ledger: &mut Ledger, given_up: &Demand| {
                    if !is_mine && !self.borrows(ledger, place) {
                        return false;
                    }
                    let asks = ledger.share(self.cohort, *queue, Some(demand));
                    ledger.remove(self.cohort, line, given_up);
                    let may_take = is_mine || asks <= ledger.share(self.cohort, line, None);
                    if !may_take {
                        ledger.add(self.cohort, line, given_up);
                    }
                    may_take
                };
                taken.take((place, part), true, because, may_take);
                if self.fits(&taken.ledger, true) {
                    return Some(taken.give_back(true));
                }
                if !taken.is_nothing_left(place, part) {
                    second.push((place, part));
                }
            }
        }
        for part in Part::ALL {
            for (place, _) in second.iter().filter(|(_, of)| *of == part) {
                let line = self.running[*place].queue;
                let may_take = |ledger: &mut Ledger, given_up: &Demand| {
                    let asks = ledger.share(self.cohort, *queue, Some(demand));
                    let may_take = self.borrows(ledger, *place)
                        && asks < ledger.share(self.cohort, line, None);
                    if may_take {
                        ledger.remove(self.cohort, line, given_up);
                    }
                    may_take
                };
                taken.take((*place, part), true, Because::FairShare, may_take);
                if self.fits(&taken.ledger, true) {
                    return Some(taken.give_back(true));
                }
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

/// What is taken of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Workers that it can do without.
    Extra,
    All,
}

impl Part {
    const ALL: [Self; 2] = [Self::Extra, Self::All];
}

/// Workers that one has less.
struct Step {
    place: usize,
    from: u32,
    to: u32,
    because: Because,
}

/// What was taken so far.
struct Taken<'t, 's, 'a> {
    search: &'t Search<'s, 'a>,
    ledger: Ledger,
    steps: Vec<Step>,
    /// By place: the workers that are left.
    left: Vec<u32>,
}

impl<'t, 's, 'a> Taken<'t, 's, 'a> {
    fn new(search: &'t Search<'s, 'a>) -> Self {
        let left = search.running.iter().map(|item| item.count).collect();
        Self { search, ledger: search.planned.clone(), steps: Vec::new(), left }
    }

    fn is_nothing_left(&self, place: usize, part: Part) -> bool {
        match part {
            Part::Extra => self.left[place] <= self.search.running[place].min,
            Part::All => self.left[place] == 0,
        }
    }

    /// Takes all of one, or one worker after the other until there is room. `may_take` takes them out
    /// of the ledger, if that is allowed.
    fn take(
        &mut self,
        (place, part): (usize, Part),
        may_borrow: bool,
        because: Because,
        mut may_take: impl FnMut(&mut Ledger, &Demand) -> bool,
    ) {
        let item = &self.search.running[place];
        let from = self.left[place];
        let mut to = from;
        match part {
            Part::All => {
                if may_take(&mut self.ledger, &item.workers(from)) {
                    to = 0;
                }
            }
            Part::Extra => {
                let one = item.workers(1);
                while to > item.min && may_take(&mut self.ledger, &one) {
                    to -= 1;
                    if self.search.fits(&self.ledger, may_borrow) {
                        break;
                    }
                }
            }
        }
        if to < from {
            self.left[place] = to;
            self.steps.push(Step { place, from, to, because });
        }
    }

    /// Gives back what is not needed, what was taken last first.
    fn give_back(mut self, may_borrow: bool) -> Vec<Victim> {
        let Search { cohort, running, .. } = *self.search;
        let mut victims: Vec<Victim> = Vec::new();
        for step in self.steps.iter().rev() {
            let Step { place, from, to, because } = *step;
            let item = &running[place];
            if self.left[place] == to {
                // The most that it may keep: a gang has at least its least, or is none.
                let (mut keeps, mut low, mut high) = (to, to.max(item.min), from);
                while low <= high {
                    let middle = low + (high - low) / 2;
                    let back = item.workers(middle - to);
                    self.ledger.add(cohort, item.queue, &back);
                    let has_room = self.search.fits(&self.ledger, may_borrow);
                    self.ledger.remove(cohort, item.queue, &back);
                    match has_room {
                        true => (keeps, low) = (middle, middle + 1),
                        false => high = middle - 1,
                    }
                }
                self.ledger.add(cohort, item.queue, &item.workers(keeps - to));
                self.left[place] = keeps;
            }
            let is_known = victims.iter().any(|victim| victim.place == place);
            if self.left[place] < item.count && !is_known {
                victims.push(Victim { place, keeps: self.left[place], because });
            }
        }
        for victim in &mut victims {
            victim.keeps = self.left[victim.place];
        }
        victims.retain(|victim| victim.keeps < running[victim.place].count);
        victims.reverse();
        victims
    }
}
