//! One round of decisions over all that waits.
//!
//! The first of each queue is looked at, who borrows least before who borrows more, then by priority
//! and time; then the next of its queue. Two ledgers are kept: what is used now, which nobody may
//! exceed, and what is planned, in which those that leave have left and those for whom they leave have
//! come, so that no room is given twice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::amounts::{Amounts, Resource};
use crate::cohort::{Cohort, Demand, Pending, Running, WIDTH, cohorts};
use crate::decision::{
    Assignment, Decision, Decisions, Eviction, FlavourUse, Resize, Room, Used, Wait, Waiting, Why,
};
use crate::forecast::{Guest, starts};
use crate::ledger::Ledger;
use crate::preempt::{Asker, Victim, victims};
use crate::queue::Strategy;
use crate::reservation::{Hold, Reservation, find};
use crate::workload::Snapshot;

/// A cycle begins anew so often at most for those that were let in and pushed out in it.
const RESTARTS: usize = 8;

/// Decides about all that waits.
pub fn decide(snapshot: &Snapshot, now: Duration) -> Decisions {
    let mut decisions = Decisions::default();
    for cohort in cohorts(snapshot) {
        let mut barred = HashMap::new();
        for left in (0..RESTARTS).rev() {
            let cycle = Cycle::new(&cohort, now, barred).run();
            // Who was pushed out had taken room that decided about others.
            if cycle.was_revoked && left > 0 {
                barred = cycle.barred;
                continue;
            }
            cycle.tell(&mut decisions);
            break;
        }
    }
    for (name, workload) in &snapshot.workloads {
        if workload.admission.is_none() && !snapshot.queues.contains_key(&workload.queue) {
            let reason = Wait::NoSuchQueue { queue: workload.queue.clone() };
            let waiting = Waiting { reason, behind: None, ahead: 0, expected_start: None };
            decisions.pending.insert(name.clone(), Decision::Wait(waiting));
        }
    }
    decisions
}

/// Of one cohort.
struct Cycle<'c, 'a> {
    cohort: &'c Cohort<'a>,
    now: Duration,
    actual: Ledger,
    planned: Ledger,
    /// What runs, then what was let in or planned in this cycle.
    running: Vec<Running<'a>>,
    /// Of each: whether nobody can push it out, since it leaves, or has left, or is not there yet.
    spared: Vec<bool>,
    /// By place: who was let in just now, as queue and place in it. It has not started, and who would
    /// push it out once it had goes before it instead.
    admitted: HashMap<usize, (usize, usize)>,
    /// Who is not let in, by queue and place in it: that one would push it out at once.
    barred: HashMap<(usize, usize), &'a str>,
    was_revoked: bool,
    /// How often what is planned has changed.
    changes: u64,
    /// By place: who holds no room in what is planned.
    gone: Vec<bool>,
    reservations: Vec<Reservation<'a>>,
    evictions: Vec<(Victim, &'a str)>,
    outcomes: Vec<Vec<Option<Outcome>>>,
    /// By queue: the first that has to wait, and whether nobody may pass it.
    heads: Vec<Option<(usize, bool)>>,
    /// Requests that found no room in this cycle: an equal one behind, which has no more rights, finds
    /// none either. What others leave beside the one for whom they leave is for a later cycle.
    refused: HashMap<Request<'c>, Wait>,
}

/// What makes two workloads of a queue equal to the quotas.
type Request<'c> = (usize, Amounts, u32, u32, &'c [usize]);

/// Of one that waited.
enum Outcome {
    Admitted(Assignment),
    /// Room is kept for it, and is about to come.
    Planned(Vec<String>),
    Blocked {
        reason: Wait,
        at: Option<Duration>,
    },
    /// Only a changed manifest helps; it is in nobody's way.
    Never(Wait),
}

/// Where one finds room.
enum Place {
    Now(Demand, u32),
    Soon(Demand),
    After(Demand, Vec<Victim>),
    Nowhere(Wait),
    Never(Wait),
}

/// Whose turn it is: what it borrows, then priority, then time.
type Turn<'a> = (u64, Reverse<i32>, Duration, &'a str, usize);

impl<'c, 'a> Cycle<'c, 'a> {
    fn new(
        cohort: &'c Cohort<'a>,
        now: Duration,
        barred: HashMap<(usize, usize), &'a str>,
    ) -> Self {
        let (mut actual, mut planned) = (Ledger::new(cohort), Ledger::new(cohort));
        for item in &cohort.running {
            actual.add(cohort, item.queue, &item.uses);
            if !item.is_leaving {
                planned.add(cohort, item.queue, &item.demand);
            }
        }
        let none = |count| std::iter::repeat_with(|| None).take(count).collect();
        Self {
            now,
            actual,
            planned,
            running: cohort.running.clone(),
            spared: cohort.running.iter().map(|item| item.is_leaving).collect(),
            admitted: HashMap::new(),
            barred,
            was_revoked: false,
            changes: 0,
            gone: cohort.running.iter().map(|item| item.is_leaving).collect(),
            reservations: Vec::new(),
            evictions: Vec::new(),
            outcomes: cohort.queues.iter().map(|queue| none(queue.pending.len())).collect(),
            heads: vec![None; cohort.queues.len()],
            refused: HashMap::new(),
            cohort,
        }
    }

    fn run(mut self) -> Self {
        let mut next = vec![0usize; self.cohort.queues.len()];
        let mut seen = vec![self.changes; next.len()];
        let mut turns: BinaryHeap<Reverse<Turn<'a>>> = BinaryHeap::new();
        for (queue, at) in next.iter_mut().enumerate() {
            turns.extend(self.next_turn(queue, at).map(Reverse));
        }
        while let Some(Reverse(turn)) = turns.pop() {
            let queue = turn.4;
            let at = next[queue];
            // Others were given room since, so that it may be somebody else's turn.
            if seen[queue] != self.changes {
                let Some(new) = self.turn(queue, at) else { continue };
                seen[queue] = self.changes;
                if new > turn {
                    turns.push(Reverse(new));
                    continue;
                }
            }
            self.look_at(queue, at);
            next[queue] += 1;
            if matches!(self.heads[queue], Some((_, true))) {
                continue;
            }
            turns.extend(self.next_turn(queue, &mut next[queue]).map(Reverse));
            seen[queue] = self.changes;
        }
        self
    }

    /// The turn of the first from `at` on who could ever start: what the others ask for says nothing
    /// of when it is their queue's turn.
    fn next_turn(&mut self, queue: usize, at: &mut usize) -> Option<Turn<'a>> {
        let cohort = self.cohort;
        while let Some(item) = cohort.queues[queue].pending.get(*at) {
            let mut least = demands(item, item.min);
            if least.any(|demand| self.exceeds(queue, &demand).is_none()) {
                break;
            }
            self.look_at(queue, *at);
            *at += 1;
        }
        self.turn(queue, *at)
    }

    fn turn(&self, queue: usize, at: usize) -> Option<Turn<'a>> {
        let item = self.cohort.queues[queue].pending.get(at)?;
        let choices = demands(item, item.count);
        let fitting = choices.clone().find(|demand| self.has_room(queue, demand));
        let demand = fitting.or_else(|| choices.clone().next());
        let borrows = match demand {
            Some(demand) if self.planned.would_borrow(self.cohort, queue, &demand) => {
                match self.cohort.is_fair {
                    true => self.planned.share(self.cohort, queue, Some(&demand)),
                    false => 1,
                }
            }
            _ => 0,
        };
        Some((borrows, Reverse(item.priority), item.created, item.name, queue))
    }

    fn has_room(&self, queue: usize, demand: &Demand) -> bool {
        self.planned.fits(self.cohort, queue, demand)
            && self.actual.fits(self.cohort, queue, demand)
    }

    fn look_at(&mut self, queue: usize, at: usize) {
        let cohort = self.cohort;
        let member = &cohort.queues[queue];
        let item = &member.pending[at];
        let request: Request<'c> = (queue, item.per_worker, item.count, item.min, &item.flavours);
        if let Some(reason) = self.refused.get(&request) {
            let blocked = Outcome::Blocked { reason: reason.clone(), at: None };
            self.outcomes[queue][at] = Some(blocked);
            return;
        }
        let is_strict = member.strategy == Strategy::StrictFifo;
        let place = match self.barred.get(&(queue, at)) {
            Some(head) => Place::Nowhere(Wait::WouldDelay { head: (*head).to_owned() }),
            None => self.place(queue, item),
        };
        let outcome = match place {
            Place::Now(demand, count) => {
                let borrows = self.planned.would_borrow(cohort, queue, &demand);
                self.actual.add(cohort, queue, &demand);
                let place = self.plan(queue, (demand, count), item);
                self.admitted.insert(place, (queue, at));
                self.spared[place] = false;
                let flavour = cohort.flavours[demand.flavour].to_owned();
                Outcome::Admitted(Assignment { flavour, count, borrows })
            }
            Place::Soon(demand) => {
                self.plan(queue, (demand, item.count), item);
                Outcome::Planned(Vec::new())
            }
            Place::After(demand, chosen) => {
                let names = self.evict(&chosen, item.name);
                let is_free = names.is_empty() && self.actual.fits(cohort, queue, &demand);
                let borrows = self.planned.would_borrow(cohort, queue, &demand);
                let place = self.plan(queue, (demand, item.count), item);
                match is_free {
                    true => {
                        self.actual.add(cohort, queue, &demand);
                        self.admitted.insert(place, (queue, at));
                        self.spared[place] = false;
                        let flavour = cohort.flavours[demand.flavour].to_owned();
                        Outcome::Admitted(Assignment { flavour, count: item.count, borrows })
                    }
                    false => Outcome::Planned(names),
                }
            }
            Place::Never(reason) => Outcome::Never(reason),
            Place::Nowhere(reason) => {
                // Whom another goes before may be a matter of how long it runs.
                if !matches!(reason, Wait::WouldDelay { .. }) {
                    self.refused.insert(request, reason.clone());
                }
                let mut expected = None;
                if self.heads[queue].is_none() {
                    // One that waits for another queue's sake has no time of its own: its queue is
                    // closed, so that nobody behind takes what it will need.
                    let is_held_up = matches!(reason, Wait::WouldDelay { .. });
                    let is_closed =
                        is_strict || is_held_up && member.strategy == Strategy::Backfill;
                    self.heads[queue] = Some((at, is_closed));
                    if !is_held_up {
                        expected = self.reserve(queue, item);
                    }
                }
                Outcome::Blocked { reason, at: expected }
            }
        };
        if is_strict && matches!(outcome, Outcome::Planned(_)) {
            self.heads[queue].get_or_insert((at, true));
        }
        self.outcomes[queue][at] = Some(outcome);
    }

    /// Where it finds room: now, when those that leave have left, or by pushing out others.
    fn place(&self, queue: usize, item: &Pending<'a>) -> Place {
        let cohort = self.cohort;
        if item.flavours.is_empty() {
            return Place::Never(Wait::NoQuota { flavours: item.wanted.to_vec() });
        }
        let mut delayed: Option<&'a str> = None;
        let mut passes = |demand: &Demand| {
            let late = self.delays(queue, demand, item.run_time);
            delayed = delayed.or(late);
            late.is_none()
        };
        let all = || demands(item, item.count);
        if let Some(demand) = all().find(|it| self.has_room(queue, it) && passes(it)) {
            return Place::Now(demand, item.count);
        }
        let mut soon = all().filter(|it| self.planned.fits(cohort, queue, it));
        if let Some(demand) = soon.find(|it| passes(it)) {
            return Place::Soon(demand);
        }
        // Behind one that waits nobody is pushed out, unless order does not count.
        let may_push = self.heads[queue].is_none()
            || cohort.queues[queue].strategy == Strategy::BestEffortFifo;
        let push = |demand: Demand, passes: &mut dyn FnMut(&Demand) -> bool| {
            let Pending { name, priority, created, .. } = *item;
            let asker = Asker { queue, name, priority, created, demand };
            let is_possible = may_push && self.exceeds(queue, &demand).is_none();
            if !is_possible || self.planned.would_borrow(cohort, queue, &demand) && !passes(&demand)
            {
                return None;
            }
            let chosen = victims(cohort, &self.planned, (&self.running, &self.spared), &asker)?;
            Some(Place::After(demand, chosen))
        };
        if let Some(place) = all().find_map(|demand| push(demand, &mut passes)) {
            return place;
        }
        if item.min < item.count {
            let mut best: Option<(u32, Demand)> = None;
            for demand in demands(item, item.min) {
                let sized = |count| Demand { amounts: item.per_worker.times(count), ..demand };
                let mut fits = |count| self.has_room(queue, &sized(count)) && passes(&sized(count));
                if !fits(item.min) {
                    continue;
                }
                let (mut low, mut high) = (item.min, item.count);
                while high - low > 1 {
                    let middle = low + (high - low) / 2;
                    if fits(middle) { low = middle } else { high = middle }
                }
                if best.is_none_or(|(most, _)| low > most) {
                    best = Some((low, sized(low)));
                }
            }
            if let Some((count, demand)) = best {
                return Place::Now(demand, count);
            }
        }
        let least = || demands(item, item.min);
        let too_much: Vec<Option<Wait>> = least().map(|it| self.exceeds(queue, &it)).collect();
        if let Some(first) = too_much.iter().flatten().next()
            && too_much.iter().all(Option::is_some)
        {
            return Place::Never(first.clone());
        }
        if let Some(head) = delayed {
            return Place::Nowhere(Wait::WouldDelay { head: head.to_owned() });
        }
        let lacking = least().zip(&too_much).filter(|(_, wait)| wait.is_none()).find_map(|it| {
            let lacking = |ledger: &Ledger| {
                let first = ledger.lacking(cohort, queue, &it.0).next();
                first.map(|(_, resource, asked, left)| (resource, asked, left))
            };
            let (resource, asked, left) =
                lacking(&self.planned).or_else(|| lacking(&self.actual))?;
            let flavour = cohort.flavours[it.0.flavour].to_owned();
            Some(Wait::QuotaUsed { flavour, resource, asked, left })
        });
        Place::Nowhere(lacking.unwrap_or(Wait::Preempting { victims: Vec::new() }))
    }

    /// What of it is more than the queue can ever have.
    fn exceeds(&self, queue: usize, demand: &Demand) -> Option<Wait> {
        let cohort = self.cohort;
        demand.cells().find_map(|(cell, resource, asked)| {
            let most = cohort.most(&cohort.quota(queue, cell)?, cell);
            let flavour = || cohort.flavours[demand.flavour].to_owned();
            (asked > most).then(|| Wait::ExceedsQuota { flavour: flavour(), resource, asked, most })
        })
    }

    /// Whom it would delay if it started now.
    fn delays(&self, queue: usize, demand: &Demand, run_time: Option<Duration>) -> Option<&'a str> {
        let ends_by = run_time.map(|run_time| self.now.saturating_add(run_time));
        let borrows = self.planned.would_borrow(self.cohort, queue, demand);
        let bound = self.reservations.iter().filter(|it| {
            if it.queue == queue { it.binds_own } else { borrows && it.is_within_own }
        });
        for reservation in bound {
            let has_ended = matches!((ends_by, reservation.at), (Some(end), Some(at)) if end <= at);
            if !has_ended && !reservation.ledger.fits(self.cohort, queue, demand) {
                return Some(reservation.head);
            }
        }
        None
    }

    /// Keeps room for one from now on. Returns its place among those that hold room.
    fn plan(&mut self, queue: usize, (demand, count): (Demand, u32), item: &Pending<'a>) -> usize {
        let cohort = self.cohort;
        let ends_by = item.run_time.map(|run_time| self.now.saturating_add(run_time));
        self.planned.add(cohort, queue, &demand);
        self.changes += 1;
        for reservation in &mut self.reservations {
            let has_ended = matches!((ends_by, reservation.at), (Some(end), Some(at)) if end <= at);
            if !has_ended {
                reservation.ledger.add(cohort, queue, &demand);
            }
            reservation.held.push(!has_ended);
        }
        let Pending { name, priority, created, per_worker, .. } = *item;
        let (since, is_leaving) = (self.now, false);
        self.running.push(Running {
            name,
            queue,
            priority,
            created,
            since,
            per_worker,
            count,
            // It has not started: who would take some of it goes before all of it.
            min: count,
            wanted: count,
            demand,
            uses: demand,
            ends_by,
            is_leaving,
        });
        self.spared.push(true);
        self.gone.push(false);
        self.running.len() - 1
    }

    /// Makes room: who was let in just now waits again, and who runs is told to leave, or to give up
    /// workers. Returns who is told so.
    fn evict(&mut self, chosen: &[Victim], for_whom: &'a str) -> Vec<String> {
        let mut leave = Vec::new();
        self.changes += 1;
        for victim in chosen {
            let Victim { place, keeps, .. } = *victim;
            let goes = keeps == 0;
            let item = &mut self.running[place];
            let (name, queue) = (item.name, item.queue);
            let demand = item.workers(item.count.saturating_sub(keeps));
            if goes {
                (self.spared[place], self.gone[place]) = (true, true);
            } else {
                (item.count, item.demand) = (keeps, item.workers(keeps));
            }
            self.planned.remove(self.cohort, queue, &demand);
            for reservation in &mut self.reservations {
                if reservation.held[place] {
                    reservation.held[place] = !goes;
                    reservation.ledger.remove(self.cohort, queue, &demand);
                }
            }
            match self.admitted.remove(&place) {
                Some((queue, at)) => {
                    self.barred.insert((queue, at), for_whom);
                    self.was_revoked = true;
                    self.actual.remove(self.cohort, queue, &demand);
                    let reason = Wait::WouldDelay { head: for_whom.to_owned() };
                    self.outcomes[queue][at] = Some(Outcome::Blocked { reason, at: None });
                }
                None => {
                    self.evictions.push((*victim, for_whom));
                    leave.push(name.to_owned());
                }
            }
        }
        leave
    }

    /// All that uses room as planned.
    fn holds(&self) -> Vec<Hold> {
        let stays = self.running.iter().enumerate().filter(|(at, _)| !self.gone[*at]);
        let hold = |(at, item): (usize, &Running<'a>)| Hold {
            queue: item.queue,
            demand: item.demand,
            // One that is late may end at any moment.
            ends_by: item.ends_by.map(|end| end.max(self.now)),
            place: Some(at),
        };
        stays.map(hold).collect()
    }

    /// Keeps room for the first of a queue. Returns when it starts at the latest, if that is known.
    fn reserve(&mut self, queue: usize, item: &Pending<'a>) -> Option<Duration> {
        let cohort = self.cohort;
        let choices: Vec<Demand> = demands(item, item.min).collect();
        let (at, choice, ledger, held) =
            find(cohort, &self.planned, (self.holds(), self.running.len()), queue, &choices)?;
        self.reservations.push(Reservation {
            queue,
            head: item.name,
            at,
            ledger,
            held,
            is_within_own: !self.planned.would_borrow(cohort, queue, &choice),
            binds_own: cohort.queues[queue].strategy == Strategy::Backfill,
        });
        at
    }

    fn tell(mut self, decisions: &mut Decisions) {
        let expected = self.forecast();
        for (name, room) in self.rooms() {
            decisions.rooms.insert(name.to_owned(), room);
        }
        for (victim, for_whom) in std::mem::take(&mut self.evictions) {
            let Victim { place, keeps, because } = victim;
            let item = &self.running[place];
            let name = item.name.to_owned();
            let eviction = Eviction { for_whom: for_whom.to_owned(), because };
            if keeps == 0 {
                // It may have been told to give up some for another one before.
                decisions.shrinks.remove(&name);
                decisions.evictions.insert(name, eviction);
                continue;
            }
            let mut cells = item.demand.cells();
            let borrows =
                cells.any(|(cell, ..)| self.planned.borrows(self.cohort, item.queue, cell));
            let from = self.cohort.running[place].count;
            let resize = Resize { from, to: keeps, borrows, why: Why::MakesRoom(eviction) };
            decisions.shrinks.insert(name, resize);
        }
        for (queue, outcomes) in std::mem::take(&mut self.outcomes).into_iter().enumerate() {
            let member = &self.cohort.queues[queue];
            let head = self.heads[queue].map(|(at, _)| member.pending[at].name);
            let (mut behind, mut ahead): (Option<&str>, usize) = (None, 0);
            for (at, outcome) in outcomes.into_iter().enumerate() {
                let item = &member.pending[at];
                let mut waits = |reason, known: Option<Duration>| {
                    let expected_start = known.or_else(|| expected.get(&(queue, at)).copied());
                    let behind = behind.replace(item.name).map(str::to_owned);
                    let waiting = Waiting { reason, behind, ahead, expected_start };
                    ahead += 1;
                    Decision::Wait(waiting)
                };
                let decision = match outcome {
                    Some(Outcome::Admitted(assignment)) => Decision::Admit(assignment),
                    Some(Outcome::Planned(victims)) => {
                        waits(Wait::Preempting { victims }, Some(self.now))
                    }
                    Some(Outcome::Blocked { reason, at }) => waits(reason, at),
                    Some(Outcome::Never(reason)) => Decision::Wait(Waiting {
                        reason,
                        behind: None,
                        ahead,
                        expected_start: None,
                    }),
                    None => {
                        let head = head.unwrap_or_default().to_owned();
                        waits(Wait::BehindHead { head }, None)
                    }
                };
                decisions.pending.insert(item.name.to_owned(), decision);
            }
            decisions.used.insert(member.name.to_owned(), self.used(queue));
        }
    }

    /// Who runs with fewer workers than it would have, and how many it could have in room that nobody
    /// who waits can use.
    fn rooms(&self) -> Vec<(&'a str, Room)> {
        let cohort = self.cohort;
        let could_grow = |place: &usize| {
            let item = &self.running[*place];
            !self.gone[*place] && !item.is_shrinking() && item.count < item.wanted
        };
        let mut growing: Vec<usize> = (0..cohort.running.len()).filter(could_grow).collect();
        if growing.is_empty() {
            return Vec::new();
        }
        growing.sort_by_key(|place| {
            let item = &self.running[*place];
            (Reverse(item.priority), item.created, item.name)
        });
        let rivals = self.rivals();
        let (mut planned, mut actual) = (self.planned.clone(), self.actual.clone());
        let mut reserved: Vec<Ledger> =
            self.reservations.iter().map(|it| it.ledger.clone()).collect();
        let mut rooms = Vec::new();
        for place in growing {
            let item = &self.running[place];
            let queue = item.queue;
            let has_ended = |reservation: &Reservation<'_>| matches!((item.ends_by, reservation.at), (Some(end), Some(at)) if end <= at);
            let is_free = |more: &Demand| {
                let mut bound = self.reservations.iter().zip(&reserved);
                planned.fits(cohort, queue, more)
                    && actual.fits(cohort, queue, more)
                    && !rivals.want(cohort, &planned, queue, more)
                    && bound.all(|(it, ledger)| has_ended(it) || ledger.fits(cohort, queue, more))
            };
            let (mut low, mut high) = (item.count, item.wanted);
            while low < high {
                let middle = high - (high - low) / 2;
                match is_free(&item.workers(middle - item.count)) {
                    true => low = middle,
                    false => high = middle - 1,
                }
            }
            if low == item.count {
                continue;
            }
            let more = item.workers(low - item.count);
            let borrows = planned.would_borrow(cohort, queue, &more);
            for (reservation, ledger) in self.reservations.iter().zip(&mut reserved) {
                if !has_ended(reservation) {
                    ledger.add(cohort, queue, &more);
                }
            }
            planned.add(cohort, queue, &more);
            actual.add(cohort, queue, &more);
            rooms.push((item.name, Room { workers: low, borrows }));
        }
        rooms
    }

    /// What those ask for that wait, and for whom no room is kept from a known moment on: as long as
    /// nobody knows who ends first, all that is free may be what one of them waits for.
    fn rivals(&self) -> Rivals {
        let cells = self.cohort.cells();
        let mut wanted = vec![false; cells * self.cohort.queues.len()];
        for (queue, outcomes) in self.outcomes.iter().enumerate() {
            let member = &self.cohort.queues[queue];
            for (item, outcome) in member.pending.iter().zip(outcomes) {
                let waits = matches!(outcome, None | Some(Outcome::Blocked { .. }));
                let is_known = |it: &Reservation<'_>| {
                    it.at.is_some() && it.queue == queue && it.head == item.name
                };
                let has_reservation = || self.reservations.iter().any(is_known);
                if !waits || has_reservation() {
                    continue;
                }
                for demand in demands(item, item.min) {
                    if self.exceeds(queue, &demand).is_none() {
                        for (cell, ..) in demand.cells() {
                            wanted[queue * cells + cell] = true;
                        }
                    }
                }
            }
        }
        Rivals { wanted }
    }

    /// The starts of those for whom no room is kept, by queue and place.
    fn forecast(&self) -> HashMap<(usize, usize), Duration> {
        let mut guests: Vec<(Turn<'a>, Guest)> = Vec::new();
        for (queue, outcomes) in self.outcomes.iter().enumerate() {
            for (at, outcome) in outcomes.iter().enumerate() {
                if !matches!(outcome, None | Some(Outcome::Blocked { .. })) {
                    continue;
                }
                let item = &self.cohort.queues[queue].pending[at];
                // One that nobody has looked at may be one that can never start.
                let possible = |demand: &Demand| self.exceeds(queue, demand).is_none();
                let choices: Vec<Demand> = demands(item, item.min).filter(possible).collect();
                if choices.is_empty() {
                    continue;
                }
                let turn = (0, Reverse(item.priority), item.created, item.name, queue);
                guests.push((turn, Guest { queue, at, choices, run_time: item.run_time }));
            }
        }
        guests.sort_by(|a, b| a.0.cmp(&b.0));
        let guests: Vec<Guest> = guests.into_iter().map(|(_, guest)| guest).collect();
        let found = starts(self.cohort, self.planned.clone(), self.holds(), &guests, self.now);
        guests.iter().zip(found).map(|(guest, start)| ((guest.queue, guest.at), start)).collect()
    }

    fn used(&self, queue: usize) -> Used {
        let cohort = self.cohort;
        let mut flavours = Vec::new();
        for flavour in &cohort.queues[queue].flavours {
            for (at, resource) in Resource::ALL.into_iter().enumerate() {
                let cell = flavour * WIDTH + at;
                let Some(quota) = cohort.quota(queue, cell) else { continue };
                let used = self.actual.used(cohort, queue, cell);
                flavours.push(FlavourUse {
                    flavour: cohort.flavours[*flavour].to_owned(),
                    resource,
                    used,
                    nominal: quota.nominal,
                    borrowed: used.saturating_sub(quota.nominal),
                });
            }
        }
        Used { flavours, share: self.actual.share(cohort, queue, None) }
    }
}

/// Those that wait, as those see them that would have more.
struct Rivals {
    /// By queue, then cell: whether somebody asks for it.
    wanted: Vec<bool>,
}

impl Rivals {
    /// Whether a queue would take something with this that one of them may use, now or when others
    /// have ended.
    fn want(&self, cohort: &Cohort<'_>, ledger: &Ledger, queue: usize, more: &Demand) -> bool {
        more.cells().any(|(cell, _, amount)| {
            let Some(quota) = cohort.quota(queue, cell) else { return false };
            let after = ledger.used(cohort, queue, cell).saturating_add(amount);
            (0..cohort.queues.len()).any(|other| {
                let Some(theirs) = cohort.quota(other, cell) else { return false };
                // What a queue keeps for itself is nobody else's; what it owns only who borrows asks for.
                let is_theirs = after > quota.nominal
                    || after > quota.guaranteed() && theirs.borrowing_limit != Some(0);
                self.wanted[other * cohort.cells() + cell] && (other == queue || is_theirs)
            })
        })
    }
}

/// What so many of its workers take, by flavour.
fn demands(item: &Pending<'_>, count: u32) -> impl Iterator<Item = Demand> + Clone {
    let amounts = item.per_worker.times(count);
    item.flavours.iter().map(move |flavour| Demand { flavour: *flavour, amounts })
}
