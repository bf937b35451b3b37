//! Which services wait to be reconciled, and since when.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::backoff;
use crate::key::ResourceKey;

/// When a service comes back that has failed and changed in the meantime.
const SOON: Duration = Duration::from_secs(1);

/// A queue in which each service stands at most once, so that it is never longer than there are
/// services. A service that is being reconciled is not given out again before it is done; one that
/// changes in the meantime comes again afterwards.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<ResourceKey>,
    in_ready: HashSet<ResourceKey>,
    due: BTreeSet<(Instant, ResourceKey)>,
    due_at: HashMap<ResourceKey, Instant>,
    running: HashSet<ResourceKey>,
    /// Running, and changed since.
    again: HashSet<ResourceKey>,
    failures: HashMap<ResourceKey, u32>,
    adds: u64,
    retries: u64,
}

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All is as it should be, until something changes.
    Settled,
    /// Look again after a while though nothing may change.
    LookAgain(Duration),
    /// Try again, later each time; not before the server's own wish, if it had one.
    Failed { not_before: Option<Duration> },
}

/// Figures for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Figures {
    pub(crate) depth: usize,
    pub(crate) running: usize,
    pub(crate) adds: u64,
    pub(crate) retries: u64,
}

impl Queue {
    /// To be reconciled as soon as a worker is free.
    pub(crate) fn add(&self, key: ResourceKey) {
        self.lock().add(key);
        self.changed.notify_one();
    }

    /// To be reconciled after a delay, unless it is sooner for another reason.
    pub(crate) fn add_after(&self, key: ResourceKey, delay: Duration) {
        self.lock().add_at(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// The next service; it is being reconciled from now on, until [`done`](Self::done). For one
    /// caller at a time. Cancel-safe.
    pub(crate) async fn next(&self) -> ResourceKey {
        loop {
            let next_due = {
                let mut state = self.lock();
                state.ripen(Instant::now());
                if let Some(key) = state.take() {
                    return key;
                }
                state.due.first().map(|(at, _)| *at)
            };
            let changed = self.changed.notified();
            match next_due {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// A service's reconcile is over.
    pub(crate) fn done(&self, key: &ResourceKey, ended: Ended) {
        let mut state = self.lock();
        state.running.remove(key);
        let changed_meanwhile = state.again.remove(key);
        match ended {
            Ended::Settled | Ended::LookAgain(_) => {
                state.failures.remove(key);
                if changed_meanwhile {
                    state.add(key.clone());
                } else if let Ended::LookAgain(delay) = ended {
                    state.add_at(key.clone(), Instant::now() + delay);
                }
            }
            Ended::Failed { not_before } => {
                let failures = state.failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                let mut delay = backoff::delay(*failures, backoff::jitter());
                // The change may have been the cure; or our own doing, so not at once.
                if changed_meanwhile {
                    delay = delay.min(SOON);
                }
                let delay = delay.max(not_before.unwrap_or_default());
                state.retries += 1;
                state.add_at(key.clone(), Instant::now() + delay);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets everything: another process acts from now on, or will look at all anew.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        *state = State { adds: state.adds, retries: state.retries, ..State::default() };
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.lock();
        Figures {
            depth: state.ready.len(),
            running: state.running.len(),
            adds: state.adds,
            retries: state.retries,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: ResourceKey) {
        self.adds += 1;
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.in_ready.insert(key.clone()) {
            self.forget_due(&key);
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: ResourceKey, at: Instant) {
        if self.in_ready.contains(&key) || self.due_at.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        self.forget_due(&key);
        self.due_at.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    fn forget_due(&mut self, key: &ResourceKey) {
        if let Some(at) = self.due_at.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    fn ripen(&mut self, now: Instant) {
        while let Some((at, key)) = self.due.first().cloned() {
            if at > now {
                break;
            }
            self.forget_due(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<ResourceKey> {
        let key = self.ready.pop_front()?;
        self.in_ready.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn key(name: &str) -> ResourceKey {
        ResourceKey::service("default", name)
    }

    /// The next service, if there is one without waiting.
    fn poll(queue: &Queue) -> Option<String> {
        queue.next().now_or_never().map(|key| key.name.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_stands_once_and_is_never_given_out_twice() {
        let queue = Queue::default();
        for name in ["a", "b", "a", "a"] {
            queue.add(key(name));
        }
        assert_eq!(queue.figures().depth, 2);
        assert_eq!(poll(&queue).as_deref(), Some("a"));
        queue.add(key("a"));
        assert_eq!(poll(&queue).as_deref(), Some("b"));
        assert_eq!(poll(&queue), None);
        queue.done(&key("a"), Ended::Settled);
        assert_eq!(poll(&queue).as_deref(), Some("a"));
        queue.done(&key("a"), Ended::Settled);
        queue.done(&key("b"), Ended::Settled);
        assert_eq!(poll(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sooner_time_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(60));
        queue.add_after(key("a"), Duration::from_secs(5));
        queue.add_after(key("a"), Duration::from_secs(30));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&key("a"), Ended::LookAgain(Duration::from_secs(10)));
        queue.add(key("a"));
        assert_eq!(poll(&queue).as_deref(), Some("a"));
        queue.done(&key("a"), Ended::Settled);
        assert_eq!(poll(&queue), None);
        assert!(queue.lock().due.is_empty() && queue.lock().due_at.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_each_time() {
        let queue = Queue::default();
        queue.add(key("a"));
        let mut waits = Vec::new();
        for _ in 0..8 {
            let start = Instant::now();
            assert_eq!(queue.next().await, key("a"));
            waits.push(start.elapsed());
            queue.done(&key("a"), Ended::Failed { not_before: None });
        }
        assert!(waits[3] > waits[1] && waits[7] > waits[5], "{waits:?}");
        let start = Instant::now();
        queue.next().await;
        queue.done(&key("a"), Ended::Failed { not_before: Some(Duration::from_secs(1000)) });
        queue.next().await;
        assert!(start.elapsed().as_secs() >= 1000);
        queue.done(&key("a"), Ended::Settled);
        assert!(queue.lock().failures.is_empty());
    }
}
