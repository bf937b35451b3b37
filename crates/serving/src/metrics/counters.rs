//! What is counted for one loaded version, both for `/metrics` and for Triton's statistics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::histogram::{BATCH_BOUNDS, Histogram, LATENCY_BOUNDS_US};
use crate::request::BatchClose;
use crate::server::{DurationStat, ModelStatistics};

/// Why a request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    QueueFull,
    QueueTimeout,
    Deadline,
    /// The client has gone.
    Cancelled,
    /// The engine refused its input or failed.
    Engine,
    /// Refused before the queue.
    Other,
}

impl Failure {
    pub(crate) const ALL: [Self; 6] = [
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Deadline,
        Self::Cancelled,
        Self::Engine,
        Self::Other,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Engine => "engine",
            Self::Other => "other",
        }
    }

    /// Triton's name, of which there are fewer.
    pub(crate) const fn triton(self) -> &'static str {
        match self {
            Self::QueueFull | Self::QueueTimeout | Self::Deadline => "REJECTED",
            Self::Cancelled => "CANCELED",
            Self::Engine => "BACKEND",
            Self::Other => "OTHER",
        }
    }
}

/// Every reason to close a batch, in the order of [`Totals::closes`].
pub(crate) const CLOSES: [BatchClose; 6] = [
    BatchClose::Unbatched,
    BatchClose::Full,
    BatchClose::Delay,
    BatchClose::ShapeMismatch,
    BatchClose::Idle,
    BatchClose::Deadline,
];

const fn close_index(close: BatchClose) -> usize {
    match close {
        BatchClose::Unbatched => 0,
        BatchClose::Full => 1,
        BatchClose::Delay => 2,
        BatchClose::ShapeMismatch => 3,
        BatchClose::Idle => 4,
        BatchClose::Deadline => 5,
    }
}

/// How long an answered request was where.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Served {
    pub(crate) queue: Duration,
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    pub(crate) output: Duration,
    /// From its arrival to its answer.
    pub(crate) total: Duration,
}

/// One execution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Executed {
    pub(crate) rows: usize,
    pub(crate) close: BatchClose,
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    pub(crate) output: Duration,
}

/// Counters of one version, updated with relaxed atomics: readers see each exactly, but not all of
/// one moment.
#[derive(Debug)]
pub(crate) struct Counters {
    success: AtomicU64,
    success_ns: AtomicU64,
    failures: [AtomicU64; Failure::ALL.len()],
    failure_ns: AtomicU64,
    queue_ns: AtomicU64,
    input_ns: AtomicU64,
    infer_ns: AtomicU64,
    output_ns: AtomicU64,
    inferences: AtomicU64,
    executions: AtomicU64,
    last_inference_ms: AtomicU64,
    closes: [AtomicU64; CLOSES.len()],
    batch_sizes: Histogram<{ BATCH_BOUNDS.len() }>,
    queue: Histogram<{ LATENCY_BOUNDS_US.len() }>,
    compute: Histogram<{ LATENCY_BOUNDS_US.len() }>,
    total: Histogram<{ LATENCY_BOUNDS_US.len() }>,
    /// Requests that wait.
    pub(crate) pending: AtomicUsize,
    /// Once an execution, so a lock is cheap enough.
    batches: Mutex<BTreeMap<u64, (DurationStat, DurationStat, DurationStat)>>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            success: AtomicU64::new(0),
            success_ns: AtomicU64::new(0),
            failures: Default::default(),
            failure_ns: AtomicU64::new(0),
            queue_ns: AtomicU64::new(0),
            input_ns: AtomicU64::new(0),
            infer_ns: AtomicU64::new(0),
            output_ns: AtomicU64::new(0),
            inferences: AtomicU64::new(0),
            executions: AtomicU64::new(0),
            last_inference_ms: AtomicU64::new(0),
            closes: Default::default(),
            batch_sizes: Histogram::new(&BATCH_BOUNDS),
            queue: Histogram::new(&LATENCY_BOUNDS_US),
            compute: Histogram::new(&LATENCY_BOUNDS_US),
            total: Histogram::new(&LATENCY_BOUNDS_US),
            pending: AtomicUsize::new(0),
            batches: Mutex::default(),
        }
    }

    pub(crate) fn served(&self, times: &Served) {
        let compute = times.input.saturating_add(times.infer).saturating_add(times.output);
        add(&self.success, 1);
        add(&self.success_ns, nanoseconds(times.total));
        add(&self.queue_ns, nanoseconds(times.queue));
        add(&self.input_ns, nanoseconds(times.input));
        add(&self.infer_ns, nanoseconds(times.infer));
        add(&self.output_ns, nanoseconds(times.output));
        self.queue.observe(microseconds(times.queue));
        self.compute.observe(microseconds(compute));
        self.total.observe(microseconds(times.total));
    }

    /// `waited` is the time since the request's arrival.
    pub(crate) fn failed(&self, failure: Failure, waited: Duration) {
        if let Some(count) = self.failures.get(failure as usize) {
            add(count, 1);
        }
        add(&self.failure_ns, nanoseconds(waited));
    }

    pub(crate) fn executed(&self, execution: &Executed) {
        let rows = count(execution.rows);
        add(&self.inferences, rows);
        add(&self.executions, 1);
        self.batch_sizes.observe(rows);
        if let Some(count) = self.closes.get(close_index(execution.close)) {
            add(count, 1);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.last_inference_ms.store(now, Ordering::Relaxed);
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, infer, output) = batches.entry(rows).or_default();
        for (stat, time) in
            [(input, execution.input), (infer, execution.infer), (output, execution.output)]
        {
            stat.count += 1;
            stat.nanoseconds = stat.nanoseconds.saturating_add(nanoseconds(time));
        }
    }

    pub(crate) fn statistics(&self, model: &str, version: u64) -> ModelStatistics {
        let totals = self.totals();
        let stat = |nanoseconds| DurationStat { count: totals.success, nanoseconds };
        ModelStatistics {
            name: model.to_owned(),
            version,
            last_inference_ms: self.last_inference_ms.load(Ordering::Relaxed),
            inference_count: totals.inferences,
            execution_count: totals.executions,
            success: stat(totals.success_ns),
            fail: DurationStat {
                count: totals.failures.iter().sum(),
                nanoseconds: self.failure_ns.load(Ordering::Relaxed),
            },
            queue: stat(totals.queue_ns),
            compute_input: stat(totals.input_ns),
            compute_infer: stat(totals.infer_ns),
            compute_output: stat(totals.output_ns),
            batches: self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let all = |counts: &[AtomicU64]| counts.iter().map(load).collect();
        Totals {
            success: load(&self.success),
            success_ns: load(&self.success_ns),
            failures: all(&self.failures),
            queue_ns: load(&self.queue_ns),
            input_ns: load(&self.input_ns),
            infer_ns: load(&self.infer_ns),
            output_ns: load(&self.output_ns),
            inferences: load(&self.inferences),
            executions: load(&self.executions),
            closes: all(&self.closes),
            batch_sizes: self.batch_sizes.counts(),
            queue: self.queue.counts(),
            compute: self.compute.counts(),
            total: self.total.counts(),
        }
    }
}

/// What `/metrics` shows of one version; totals of several loads of it can be added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) success: u64,
    pub(crate) success_ns: u64,
    /// In the order of [`Failure::ALL`].
    pub(crate) failures: Vec<u64>,
    pub(crate) queue_ns: u64,
    pub(crate) input_ns: u64,
    pub(crate) infer_ns: u64,
    pub(crate) output_ns: u64,
    pub(crate) inferences: u64,
    pub(crate) executions: u64,
    /// In the order of [`CLOSES`].
    pub(crate) closes: Vec<u64>,
    pub(crate) batch_sizes: Vec<u64>,
    pub(crate) queue: Vec<u64>,
    pub(crate) compute: Vec<u64>,
    pub(crate) total: Vec<u64>,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.success, other.success),
            (&mut self.success_ns, other.success_ns),
            (&mut self.queue_ns, other.queue_ns),
            (&mut self.input_ns, other.input_ns),
            (&mut self.infer_ns, other.infer_ns),
            (&mut self.output_ns, other.output_ns),
            (&mut self.inferences, other.inferences),
            (&mut self.executions, other.executions),
        ] {
            *mine = mine.wrapping_add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.failures, &other.failures),
            (&mut self.closes, &other.closes),
            (&mut self.batch_sizes, &other.batch_sizes),
            (&mut self.queue, &other.queue),
            (&mut self.compute, &other.compute),
            (&mut self.total, &other.total),
        ] {
            mine.resize(theirs.len().max(mine.len()), 0);
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine = mine.wrapping_add(*theirs);
            }
        }
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounded up, so that nothing is counted below a bound that it exceeds.
fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn count(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_the_order_of_their_indices() {
        assert!(Failure::ALL.iter().enumerate().all(|(at, failure)| *failure as usize == at));
        assert!(CLOSES.iter().enumerate().all(|(at, close)| close_index(*close) == at));
    }

    #[test]
    fn totals_add_up() {
        let counters = Counters::new();
        let time = Duration::from_micros(70);
        counters.served(&Served { queue: time, infer: time, total: time * 2, ..Served::default() });
        counters.failed(Failure::Deadline, time);
        let mut twice = Totals::default();
        twice.add(&counters.totals());
        assert_eq!(twice, counters.totals());
        twice.add(&counters.totals());
        assert_eq!((twice.success, twice.success_ns), (2, 280_000));
        assert_eq!(twice.failures, [0, 0, 2, 0, 0, 0]);
        assert_eq!(twice.total.iter().sum::<u64>(), 2);
    }
}
