//! Sending: as fast as answers come, or at a rate that does not wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{Connection, Endpoint, Failure};
use super::histogram::Histogram;

/// What to send.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    pub(super) connections: usize,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    /// Requests a second; `None` sends the next when the last is answered.
    pub(super) rate: Option<f64>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of answered requests.
    pub(super) latencies: Histogram,
    pub(super) failures: BTreeMap<Failure, u64>,
    /// From the end of the warm-up to the last answer that counts.
    pub(super) elapsed: Duration,
    /// Requests that were due and not even sent when time was up.
    pub(super) unsent: u64,
}

/// After a failure, so that a server that is down is not asked a million times.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn drive(endpoint: Arc<Endpoint>, load: &Load) -> Outcome {
    let begin = Instant::now();
    let from = begin.checked_add(load.warmup).unwrap_or(begin);
    let until = from.checked_add(load.duration).unwrap_or(from);
    let pace = load.rate.map(|rate| Arc::new(Pace::new(begin, rate)));
    let clock = pace.clone().map(|pace| std::thread::spawn(move || pace.run(until)));
    let mut workers = JoinSet::new();
    for _ in 0..load.connections {
        let connection = Connection::new(Arc::clone(&endpoint));
        workers.spawn(work(connection, pace.clone(), from, until));
    }
    let mut outcome = Outcome { elapsed: load.duration, ..Outcome::default() };
    for part in workers.join_all().await {
        outcome.latencies.merge(&part.latencies);
        for (failure, count) in part.failures {
            let sum = outcome.failures.entry(failure).or_default();
            *sum = sum.saturating_add(count);
        }
        outcome.elapsed = outcome.elapsed.max(part.elapsed);
    }
    outcome.unsent = pace.map_or(0, |pace| pace.unsent());
    // It ended when it closed the gate for the workers.
    clock.map(std::thread::JoinHandle::join);
    outcome
}

/// Sends until time is up.
async fn work(
    mut connection: Connection,
    pace: Option<Arc<Pace>>,
    from: Instant,
    until: Instant,
) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let due = match &pace {
            None => Some(Instant::now()),
            Some(pace) => pace.next().await,
        };
        let Some(due) = due.filter(|due| *due < until) else { return outcome };
        let result = connection.send().await;
        let done = Instant::now();
        if due >= from {
            outcome.elapsed = outcome.elapsed.max(done.saturating_duration_since(from));
            match &result {
                Ok(()) => outcome.latencies.record(done.saturating_duration_since(due)),
                Err(failure) => {
                    let count = outcome.failures.entry(failure.clone()).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
        if result.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// When requests are due. A thread of its own keeps the time, because the runtime's timers tick
/// once a millisecond.
struct Pace {
    begin: Instant,
    rate: f64,
    /// One permit a request that is due and not sent; closed at the end.
    gate: Semaphore,
    issued: AtomicU64,
    taken: AtomicU64,
}

/// How often the thread looks, while several requests are due within it.
const TICK: Duration = Duration::from_micros(100);

impl Pace {
    fn new(begin: Instant, rate: f64) -> Self {
        let counter = || AtomicU64::new(0);
        Self { begin, rate, gate: Semaphore::new(0), issued: counter(), taken: counter() }
    }

    fn due(&self, number: u64) -> Instant {
        let after = Duration::try_from_secs_f64(number as f64 / self.rate).unwrap_or(Duration::MAX);
        // A year is after every end.
        self.begin.checked_add(after.min(Duration::from_secs(31_536_000))).unwrap_or(self.begin)
    }

    fn run(&self, until: Instant) {
        loop {
            let now = Instant::now();
            if now >= until {
                break self.gate.close();
            }
            let next = self.issued.load(Ordering::Relaxed);
            let due = self.due(next);
            if due > now {
                std::thread::sleep(due.min(until).saturating_duration_since(now).min(TICK * 50));
                continue;
            }
            let passed = now.saturating_duration_since(self.begin).as_secs_f64();
            // At least the one that was just seen to be due.
            let all = ((passed * self.rate) as u64).max(next).saturating_add(1);
            let more = all.saturating_sub(next);
            self.issued.store(all, Ordering::Relaxed);
            self.gate.add_permits(usize::try_from(more).unwrap_or(usize::MAX >> 4));
            std::thread::sleep(TICK);
        }
    }

    /// Waits for the next request; returns when it was due, or `None` at the end.
    async fn next(&self) -> Option<Instant> {
        self.gate.acquire().await.ok()?.forget();
        Some(self.due(self.taken.fetch_add(1, Ordering::Relaxed)))
    }

    fn unsent(&self) -> u64 {
        self.issued.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_due_at_the_rate() {
        let begin = Instant::now();
        let pace = Arc::new(Pace::new(begin, 2000.0));
        let until = begin + Duration::from_millis(100);
        let clock = Arc::clone(&pace);
        let thread = std::thread::spawn(move || clock.run(until));
        let mut seen = Vec::new();
        while let Some(due) = pace.next().await {
            assert!(Instant::now() >= due, "it is not sent before it is due");
            seen.push(due - begin);
        }
        thread.join().unwrap();
        assert!(seen.is_sorted());
        let sent_or_not = seen.len() as u64 + pace.unsent();
        assert!((190..=202).contains(&sent_or_not), "{sent_or_not}");
        assert_eq!(seen[1], Duration::from_micros(500));
    }
}
