//! The requests that wait for one version, in the order in which they are served.
//!
//! Time arrives as a value. Priority is strict for [`AGEING`] and no longer: a request of level `n`
//! is placed as if it had arrived `n - 1` times [`AGEING`] later than it did. Without that, a client
//! that keeps the urgent level busy would keep all others out for ever, which its owner notices as
//! a hang, not as a priority. Since all requests age alike their order never changes while they
//! wait, and one ordered map is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::Job;
use super::options::{SchedulerOptions, TimeoutAction};

/// How long a request waits for those of the next more urgent level: long beside any sensible
/// latency target, short beside a client's patience.
pub(crate) const AGEING: Duration = Duration::from_secs(1);

/// A request that waits, and where its answer goes.
pub(crate) struct Waiting<R> {
    pub(crate) job: Job,
    pub(crate) reply: R,
    pub(crate) ticket: Ticket,
}

/// What finds a waiting request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) sequence: u64,
    pub(crate) enqueued: Instant,
    level: u64,
    rank: Rank,
    /// When the wait becomes too long, and what happens then.
    pub(crate) expiry: Option<Expiry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) at: Instant,
    pub(crate) action: TimeoutAction,
}

/// Place in the order: a (shifted) time of arrival since the queue was made, then the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    arrival: Duration,
    sequence: u64,
}

/// Why a request leaves the queue without having run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    QueueTimeout,
    Deadline,
}

/// The queue's level is full; its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) limit: usize,
}

pub(crate) struct Queue<R> {
    options: Arc<SchedulerOptions>,
    epoch: Instant,
    waiting: BTreeMap<Rank, Waiting<R>>,
    /// Moments at which a waiting request expires or misses its deadline.
    due: BTreeSet<(Instant, Rank)>,
    lengths: BTreeMap<u64, usize>,
    next_sequence: u64,
    rows: usize,
}

impl<R> Queue<R> {
    pub(crate) fn new(options: Arc<SchedulerOptions>, epoch: Instant) -> Self {
        Self {
            options,
            epoch,
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            lengths: BTreeMap::new(),
            next_sequence: 0,
            rows: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Batch elements of all that wait.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// In the order in which they are served.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting<R>> {
        self.waiting.values()
    }

    /// Adds a request, unless its level is full.
    pub(crate) fn push(&mut self, job: Job, reply: R, now: Instant) -> Result<Ticket, Full> {
        let level = self.options.level(job.priority);
        let policy = self.options.policy(level);
        let length = self.lengths.entry(level).or_default();
        if policy.max_size > 0 && *length >= policy.max_size {
            return Err(Full { limit: policy.max_size });
        }
        *length += 1;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let expiry = policy
            .timeout(job.queue_timeout)
            .and_then(|timeout| now.checked_add(timeout))
            .map(|at| Expiry { at, action: policy.on_timeout });
        let rank = self.rank(now, level, sequence);
        let ticket = Ticket { sequence, enqueued: now, level, rank, expiry };
        self.insert(Waiting { job, reply, ticket });
        Ok(ticket)
    }

    /// Takes one request out, if it still waits.
    pub(crate) fn withdraw(&mut self, ticket: &Ticket) -> Option<Waiting<R>> {
        let taken = self.remove(ticket.rank).or_else(|| self.remove(self.overdue_rank(ticket)?))?;
        self.leave(&taken);
        Some(taken)
    }

    /// Takes the first `count` requests.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Waiting<R>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count
            && let Some((&rank, _)) = self.waiting.first_key_value()
            && let Some(first) = self.remove(rank)
        {
            self.leave(&first);
            taken.push(first);
        }
        taken
    }

    /// Takes out those that must not run any more, and puts back those whose timeout delays them.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(Waiting<R>, Expired)> {
        let mut gone = Vec::new();
        while let Some(&(at, rank)) = self.due.first()
            && at <= now
        {
            let Some(mut one) = self.remove(rank) else {
                self.due.remove(&(at, rank));
                continue;
            };
            if one.job.deadline.is_some_and(|deadline| deadline <= now) {
                self.leave(&one);
                gone.push((one, Expired::Deadline));
                continue;
            }
            match one.ticket.expiry.map(|expiry| expiry.action) {
                Some(TimeoutAction::Delay) => {
                    if let Some(rank) = self.overdue_rank(&one.ticket) {
                        one.ticket.rank = rank;
                    }
                    one.ticket.expiry = None;
                    self.insert(one);
                }
                Some(TimeoutAction::Reject) | None => {
                    self.leave(&one);
                    gone.push((one, Expired::QueueTimeout));
                }
            }
        }
        gone
    }

    fn rank(&self, arrival: Instant, level: u64, sequence: u64) -> Rank {
        let shift = u32::try_from(level.saturating_sub(1)).unwrap_or(u32::MAX);
        let arrival = arrival
            .saturating_duration_since(self.epoch)
            .saturating_add(AGEING.saturating_mul(shift));
        Rank { arrival, sequence }
    }

    /// The place of a request that was delayed: one level below the lowest, from when it expired.
    /// It is behind all others, and like them it ages, so that it is served at last.
    fn overdue_rank(&self, ticket: &Ticket) -> Option<Rank> {
        let below = self.options.priority_levels.max(1).saturating_add(1);
        ticket.expiry.map(|expiry| self.rank(expiry.at, below, ticket.sequence))
    }

    fn insert(&mut self, one: Waiting<R>) {
        let rank = one.ticket.rank;
        self.due.extend(moments(&one).map(|at| (at, rank)));
        self.rows = self.rows.saturating_add(one.job.rows);
        self.waiting.insert(rank, one);
    }

    fn remove(&mut self, rank: Rank) -> Option<Waiting<R>> {
        let one = self.waiting.remove(&rank)?;
        for at in moments(&one) {
            self.due.remove(&(at, rank));
        }
        self.rows = self.rows.saturating_sub(one.job.rows);
        Some(one)
    }

    /// Gives the place in the level's queue back.
    fn leave(&mut self, one: &Waiting<R>) {
        if let Some(length) = self.lengths.get_mut(&one.ticket.level) {
            *length = length.saturating_sub(1);
        }
    }
}

/// When something must happen to a waiting request.
fn moments<R>(one: &Waiting<R>) -> impl Iterator<Item = Instant> + use<R> {
    let expiry = one.ticket.expiry.map(|expiry| expiry.at);
    expiry.into_iter().chain(one.job.deadline)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{job, options};
    use super::super::options::QueuePolicy;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn queue(levels: u64, policy: QueuePolicy) -> (Queue<u32>, Instant) {
        let options = SchedulerOptions {
            priority_levels: levels,
            default_priority: 2,
            queue: policy,
            ..options(8)
        };
        let now = Instant::now();
        (Queue::new(Arc::new(options), now), now)
    }

    fn push(queue: &mut Queue<u32>, name: u32, priority: u64, now: Instant) -> Ticket {
        queue.push(Job { priority, ..job(&[1]) }, name, now).expect("has room")
    }

    fn order(queue: &Queue<u32>) -> Vec<u32> {
        queue.iter().map(|one| one.reply).collect()
    }

    #[test]
    fn urgent_levels_go_first_and_equal_ones_in_order() {
        let (mut queue, now) = queue(3, QueuePolicy::default());
        for (name, priority) in [(1, 3), (2, 0), (3, 1), (4, 2), (5, 1)] {
            push(&mut queue, name, priority, now);
        }
        assert_eq!(order(&queue), [3, 5, 2, 4, 1]);
    }

    #[test]
    fn a_request_that_waited_long_is_not_overtaken() {
        let (mut queue, now) = queue(3, QueuePolicy::default());
        push(&mut queue, 1, 3, now);
        push(&mut queue, 2, 1, now + AGEING);
        push(&mut queue, 3, 2, now + AGEING + MS);
        push(&mut queue, 4, 1, now + AGEING * 2 + MS);
        push(&mut queue, 5, 1, now + AGEING * 3);
        assert_eq!(order(&queue), [2, 1, 3, 4, 5]);
    }

    #[test]
    fn a_full_level_refuses_and_others_do_not() {
        let (mut queue, now) = queue(2, QueuePolicy { max_size: 2, ..QueuePolicy::default() });
        let first = push(&mut queue, 1, 1, now);
        push(&mut queue, 2, 1, now);
        let refused = queue.push(Job { priority: 1, ..job(&[1]) }, 3, now);
        assert_eq!(refused, Err(Full { limit: 2 }));
        push(&mut queue, 4, 2, now);
        assert!(queue.withdraw(&first).is_some());
        assert!(queue.withdraw(&first).is_none());
        push(&mut queue, 5, 1, now);
        assert_eq!(order(&queue), [2, 5, 4]);
        queue.take(2);
        push(&mut queue, 6, 1, now);
        assert_eq!(order(&queue), [6, 4]);
        assert_eq!(queue.rows(), 2);
    }

    #[test]
    fn timeouts_reject() {
        let policy = QueuePolicy { timeout: Some(MS * 5), ..QueuePolicy::default() };
        let (mut queue, now) = queue(1, policy);
        push(&mut queue, 1, 0, now);
        push(&mut queue, 2, 0, now + MS);
        assert!(queue.expire(now + MS * 4).is_empty());
        let gone = queue.expire(now + MS * 5);
        assert_eq!(gone[0].1, Expired::QueueTimeout);
        assert_eq!(gone[0].0.reply, 1);
        assert_eq!(order(&queue), [2]);
    }

    #[test]
    fn timeouts_delay_behind_all_others() {
        let policy = QueuePolicy {
            timeout: Some(MS * 5),
            on_timeout: TimeoutAction::Delay,
            ..QueuePolicy::default()
        };
        let (mut queue, now) = queue(2, policy);
        let delayed = push(&mut queue, 1, 1, now);
        push(&mut queue, 2, 2, now + MS);
        assert!(queue.expire(now + MS * 5).is_empty());
        assert_eq!(order(&queue), [2, 1]);
        push(&mut queue, 3, 2, now + MS * 5);
        assert_eq!(order(&queue), [2, 3, 1]);
        assert_eq!(queue.withdraw(&delayed).map(|one| one.reply), Some(1));
        assert_eq!(order(&queue), [2, 3]);
    }

    #[test]
    fn deadlines_end_the_wait() {
        let (mut queue, now) = queue(1, QueuePolicy::default());
        let job = Job { deadline: Some(now + MS), ..job(&[1]) };
        queue.push(job, 1, now).expect("has room");
        push(&mut queue, 2, 0, now);
        let gone = queue.expire(now + MS);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].1, Expired::Deadline);
        assert_eq!(order(&queue), [2]);
        assert!(queue.due.is_empty());
    }
}
