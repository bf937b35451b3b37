//! How one version is queued, batched and run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::verify::SingleRun;

/// How one version is run.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerOptions {
    /// Most batch elements in one execution; 0: the model has no batch dimension.
    pub max_batch_size: usize,
    /// Whether requests are put together; without it each runs alone.
    pub batching: Option<Batching>,
    /// Executions at a time, strictly: those on the fast path count too.
    pub instances: usize,
    /// The queue of requests that name no priority, and of all without priority levels.
    pub queue: QueuePolicy,
    /// Number of priority levels, 0 or 1 for none; 1 is the most urgent.
    pub priority_levels: u64,
    /// The level of requests that name none.
    pub default_priority: u64,
    /// Policies of levels that differ from `queue`.
    pub priority_queues: BTreeMap<u64, QueuePolicy>,
    /// How long one request takes alone, as [`verify_batching`](super::verify_batching) measured
    /// it. Without it the model is taken for slow until requests have shown otherwise.
    pub single_run: Option<SingleRun>,
}

/// When a batch is closed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batching {
    /// Ascending; empty means `max_batch_size` only.
    pub preferred_sizes: Vec<usize>,
    /// Counted from the arrival of the oldest waiting request.
    pub max_delay: Duration,
    /// Answers leave in the order of arrival, across instances.
    pub preserve_ordering: bool,
}

/// How long a queue may be, and its requests may wait.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueuePolicy {
    /// Requests, not elements; 0 is unlimited.
    pub max_size: usize,
    pub timeout: Option<Duration>,
    pub on_timeout: TimeoutAction,
    /// Whether a request may shorten `timeout` (or set one where there is none).
    pub allow_override: bool,
}

/// What happens to a request that waited too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutAction {
    #[default]
    Reject,
    /// It goes behind all others that have not expired.
    Delay,
}

impl SchedulerOptions {
    /// Batching, where a batch can hold more than one element.
    pub(crate) fn batching(&self) -> Option<&Batching> {
        self.batching.as_ref().filter(|_| self.max_batch_size > 1)
    }

    /// The level that a request's priority means: the default for 0 and for levels there are not,
    /// as Triton has it.
    pub(crate) fn level(&self, priority: u64) -> u64 {
        let levels = self.priority_levels.max(1);
        if (1..=levels).contains(&priority) {
            priority
        } else {
            self.default_priority.clamp(1, levels)
        }
    }

    pub(crate) fn policy(&self, level: u64) -> &QueuePolicy {
        self.priority_queues.get(&level).unwrap_or(&self.queue)
    }
}

impl QueuePolicy {
    /// How long a request that asks for `requested` may wait. Zero asks for nothing.
    ///
    /// Unlike Triton, a request may set a timeout where the policy has none: there the comparison
    /// with a default of zero makes the override a no-op, which nobody expects.
    pub(crate) fn timeout(&self, requested: Option<Duration>) -> Option<Duration> {
        let requested = requested.filter(|time| self.allow_override && !time.is_zero());
        match (self.timeout, requested) {
            (Some(default), Some(requested)) => Some(default.min(requested)),
            (default, requested) => default.or(requested),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_set_or_shorten_its_timeout() {
        let ms = Duration::from_millis;
        let check = |default: Option<u64>, allow_override, requested: Option<u64>, expected| {
            let policy =
                QueuePolicy { timeout: default.map(ms), allow_override, ..QueuePolicy::default() };
            let case = (default, allow_override, requested);
            assert_eq!(policy.timeout(requested.map(ms)), Option::map(expected, ms), "{case:?}");
        };
        check(None, true, None, None);
        check(None, true, Some(5), Some(5));
        check(None, false, Some(5), None);
        check(Some(9), true, Some(5), Some(5));
        check(Some(9), true, Some(20), Some(9));
        check(Some(9), false, Some(5), Some(9));
        check(Some(9), true, Some(0), Some(9));
        check(None, true, Some(0), None);
    }

    #[test]
    fn unknown_priorities_mean_the_default() {
        let check = |levels, default, priority, expected| {
            let options = SchedulerOptions {
                priority_levels: levels,
                default_priority: default,
                ..super::super::fixtures::options(8)
            };
            assert_eq!(options.level(priority), expected, "{levels} {default} {priority}");
        };
        check(0, 0, 0, 1);
        check(0, 0, 7, 1);
        check(3, 2, 0, 2);
        check(3, 2, 1, 1);
        check(3, 2, 3, 3);
        check(3, 2, 4, 2);
        check(3, 9, 0, 3);
    }
}
