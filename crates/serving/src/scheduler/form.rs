//! Decides which of the waiting requests run next, together, and whether now.
//!
//! Triton's rules, so that configurations written for it do what their authors saw: the longest
//! prefix that is of one shape and fits; a preferred size goes at once; without one, the oldest
//! request's delay is waited for. Asked only when an instance is free, so that without any delay,
//! too, what has piled up meanwhile forms a batch. Unlike Triton's, a batch is also closed early
//! when waiting on would make a member miss its deadline.

use std::time::{Duration, Instant};

use super::options::SchedulerOptions;
use super::queue::{Queue, Ticket};
use crate::request::BatchClose;

/// What to do with the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing waits.
    Empty,
    /// Ask again then, or as soon as `rows` elements wait.
    Wait { until: Instant, rows: usize },
    /// Run the first `count` requests.
    Run { count: usize, close: BatchClose },
}

/// Time left at least for waking up, taking a request and telling its client: a busy machine wakes a
/// thread after a millisecond.
const MARGIN: Duration = Duration::from_millis(2);

/// Decides for a free instance. `expected_run` is how long an execution takes.
pub(crate) fn decide<R>(
    queue: &Queue<R>,
    options: &SchedulerOptions,
    expected_run: Duration,
    now: Instant,
) -> Decision {
    let Some(head) = queue.iter().next() else { return Decision::Empty };
    let Some(batching) = options.batching().filter(|_| head.job.can_share()) else {
        return Decision::Run { count: 1, close: BatchClose::Unbatched };
    };
    let only_max = [options.max_batch_size];
    let preferred: &[usize] = match batching.preferred_sizes.as_slice() {
        [] => &only_max,
        sizes => sizes,
    };
    let largest = preferred.last().copied().unwrap_or(options.max_batch_size);

    let (mut count, mut rows) = (0usize, 0usize);
    let mut best = None;
    let mut stopped = None;
    let mut oldest = head.ticket.enqueued;
    let mut last_moment = None;
    for one in queue.iter() {
        let with_it = rows.saturating_add(one.job.rows);
        if count > 0 && with_it > options.max_batch_size {
            stopped = Some(BatchClose::Full);
        } else if !head.job.joins(&one.job) {
            stopped = Some(BatchClose::ShapeMismatch);
        }
        if stopped.is_some() {
            break;
        }
        if with_it > largest && best.is_none() && count > 0 {
            best = Some(count);
        }
        (count, rows) = (count + 1, with_it);
        if preferred.contains(&rows) {
            best = Some(count);
        }
        oldest = oldest.min(one.ticket.enqueued);
        let latest = latest_start(&one.ticket, one.job.deadline, expected_run);
        last_moment = earlier(last_moment, latest);
    }

    let delay_ends = oldest.checked_add(batching.max_delay);
    let delay_over = delay_ends.is_some_and(|end| end <= now);
    if let Some(count) = best.filter(|_| !delay_over || batching.max_delay.is_zero()) {
        return Decision::Run { count, close: BatchClose::Full };
    }
    if let Some(close) = stopped {
        return Decision::Run { count, close };
    }
    if rows >= largest {
        return Decision::Run { count, close: BatchClose::Full };
    }
    if batching.max_delay.is_zero() {
        return Decision::Run { count, close: BatchClose::Idle };
    }
    if delay_over {
        return Decision::Run { count, close: BatchClose::Delay };
    }
    if last_moment.is_some_and(|moment| moment <= now) {
        return Decision::Run { count, close: BatchClose::Deadline };
    }
    let next_size = preferred.iter().copied().find(|size| *size > rows).unwrap_or(largest);
    match earlier(delay_ends, last_moment) {
        Some(until) => Decision::Wait { until, rows: next_size },
        // A delay beyond the end of time: only a full batch or a deadline ends it.
        None => Decision::Wait { until: now + Duration::from_secs(3600), rows: next_size },
    }
}

/// The latest moment at which a request can be taken and not miss what it must not miss.
///
/// An eighth of the time that it had is left over, since whoever can wait for long gains little from
/// the last of it, and loses all by a thread that wakes up late.
pub(crate) fn latest_start(
    ticket: &Ticket,
    deadline: Option<Instant>,
    expected_run: Duration,
) -> Option<Instant> {
    let before = |at: Instant, run: Duration| {
        let share = at.saturating_duration_since(ticket.enqueued) / 8;
        at.checked_sub(share.max(MARGIN).saturating_add(run)).unwrap_or(at)
    };
    let expiry = ticket.expiry.map(|expiry| before(expiry.at, Duration::ZERO));
    let deadline = deadline.map(|at| before(at, expected_run));
    earlier(expiry, deadline)
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::fixtures::{ints, job, job_of, options};
    use super::super::job::Job;
    use super::super::options::Batching;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Requests as (rows, width, milliseconds after the start); `at` is when it is asked.
    #[track_caller]
    fn check(
        preferred: &[usize],
        delay: u32,
        requests: &[(usize, usize, u32)],
        at: u32,
        expected: Result<(usize, BatchClose), Option<(u32, usize)>>,
    ) {
        let start = Instant::now();
        let options = Arc::new(SchedulerOptions {
            batching: Some(Batching {
                preferred_sizes: preferred.to_vec(),
                max_delay: MS * delay,
                preserve_ordering: false,
            }),
            ..options(8)
        });
        let mut queue = Queue::new(Arc::clone(&options), start);
        for &(rows, width, arrival) in requests {
            let tensor = ints(&[rows, width], &vec![0; rows * width]);
            let job = job_of(vec![Some(tensor)], rows);
            queue.push(job, (), start + MS * arrival).expect("unlimited");
        }
        let decision = decide(&queue, &options, MS, start + MS * at);
        let expected = match expected {
            Ok((count, close)) => Decision::Run { count, close },
            Err(Some((until, rows))) => Decision::Wait { until: start + MS * until, rows },
            Err(None) => Decision::Empty,
        };
        assert_eq!(decision, expected);
    }

    #[test]
    fn nothing_and_idle() {
        check(&[], 0, &[], 0, Err(None));
        check(&[], 0, &[(1, 1, 0)], 0, Ok((1, BatchClose::Idle)));
        check(&[], 0, &[(1, 1, 0), (3, 1, 0)], 0, Ok((2, BatchClose::Idle)));
        check(&[4], 0, &[(1, 1, 0), (1, 1, 0)], 0, Ok((2, BatchClose::Idle)));
    }

    #[test]
    fn full() {
        check(&[], 5, &[(4, 1, 0), (4, 1, 0)], 0, Ok((2, BatchClose::Full)));
        check(&[], 5, &[(8, 1, 0)], 0, Ok((1, BatchClose::Full)));
        // Never split: the next does not fit, so the batch is as full as it gets.
        check(&[], 5, &[(4, 1, 0), (3, 1, 0), (2, 1, 0)], 0, Ok((2, BatchClose::Full)));
        check(&[], 0, &[(5, 1, 0), (4, 1, 0)], 0, Ok((1, BatchClose::Full)));
    }

    #[test]
    fn preferred_sizes() {
        check(&[2, 4], 5, &[(1, 1, 0)], 0, Err(Some((5, 2))));
        check(&[2, 4], 5, &[(1, 1, 0), (1, 1, 0)], 0, Ok((2, BatchClose::Full)));
        check(&[2, 4], 5, &[(1, 1, 0); 3], 0, Ok((2, BatchClose::Full)));
        check(&[2, 4], 5, &[(1, 1, 0); 6], 0, Ok((4, BatchClose::Full)));
        // No preferred size can be hit any more: what fits below the largest goes.
        check(&[4], 5, &[(3, 1, 0), (3, 1, 0)], 0, Ok((1, BatchClose::Full)));
        // Once the delay is over, everything goes.
        check(&[2, 4], 5, &[(1, 1, 0); 3], 5, Ok((3, BatchClose::Delay)));
        check(&[2, 4], 0, &[(1, 1, 0); 3], 0, Ok((2, BatchClose::Full)));
    }

    #[test]
    fn delay_counts_from_the_oldest() {
        check(&[], 5, &[(1, 1, 0), (1, 1, 3)], 3, Err(Some((5, 8))));
        check(&[], 5, &[(1, 1, 0), (1, 1, 3)], 5, Ok((2, BatchClose::Delay)));
    }

    #[test]
    fn shapes_do_not_mix() {
        check(&[], 5, &[(1, 1, 0), (1, 2, 0)], 0, Ok((1, BatchClose::ShapeMismatch)));
        check(&[], 5, &[(1, 1, 0), (2, 1, 0), (1, 2, 0)], 0, Ok((2, BatchClose::ShapeMismatch)));
    }

    #[test]
    fn a_deadline_ends_the_delay_early() {
        let start = Instant::now();
        let batching = Batching { max_delay: MS * 50, ..Batching::default() };
        let options = Arc::new(SchedulerOptions { batching: Some(batching), ..options(8) });
        let mut queue = Queue::new(Arc::clone(&options), start);
        let hurried = Job { deadline: Some(start + MS * 40), ..job(&[1]) };
        queue.push(job(&[1]), (), start).expect("unlimited");
        queue.push(hurried, (), start).expect("unlimited");
        // An eighth of 40 ms, and the run, before the deadline.
        let moment = start + MS * 30;
        assert_eq!(
            decide(&queue, &options, MS * 5, start),
            Decision::Wait { until: moment, rows: 8 }
        );
        assert_eq!(
            decide(&queue, &options, MS * 5, moment),
            Decision::Run { count: 2, close: BatchClose::Deadline }
        );
    }

    #[test]
    fn without_batching_each_runs_alone() {
        let start = Instant::now();
        for (batching, max) in [(None, 8), (Some(Batching::default()), 1)] {
            let options =
                Arc::new(SchedulerOptions { batching, max_batch_size: max, ..options(8) });
            let mut queue = Queue::new(Arc::clone(&options), start);
            queue.push(job(&[1]), (), start).expect("unlimited");
            queue.push(job(&[1]), (), start).expect("unlimited");
            assert_eq!(
                decide(&queue, &options, MS, start),
                Decision::Run { count: 1, close: BatchClose::Unbatched }
            );
        }
    }

    proptest! {
        #[test]
        fn batches_fit_and_agree(
            requests in prop::collection::vec((1usize..=8, 1usize..3, 0u32..10), 0..20),
            preferred in prop::collection::btree_set(1usize..=8, 0..3),
            delay in 0u32..10,
            asked in 0u32..20,
        ) {
            let start = Instant::now();
            let batching = Batching {
                preferred_sizes: preferred.into_iter().collect(),
                max_delay: MS * delay,
                preserve_ordering: false,
            };
            let options = Arc::new(SchedulerOptions { batching: Some(batching), ..options(8) });
            let mut queue = Queue::new(Arc::clone(&options), start);
            for (rows, width, arrival) in requests {
                let tensor = ints(&[rows, width], &vec![0; rows * width]);
                let job = job_of(vec![Some(tensor)], rows);
                queue.push(job, (), start + MS * arrival).expect("unlimited");
            }
            let now = start + MS * asked;
            match decide(&queue, &options, MS, now) {
                Decision::Empty => prop_assert!(queue.is_empty()),
                Decision::Wait { until, rows } => {
                    prop_assert!(until > now);
                    prop_assert!(rows > queue.rows());
                }
                Decision::Run { count, .. } => {
                    let batch = queue.take(count);
                    prop_assert_eq!(batch.len(), count);
                    prop_assert!(batch.iter().map(|one| one.job.rows).sum::<usize>() <= 8);
                    prop_assert!(batch.iter().all(|one| batch[0].job.joins(&one.job)));
                }
            }
        }
    }
}
