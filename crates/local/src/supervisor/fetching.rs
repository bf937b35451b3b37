//! How a service's model comes here: how far it is, and when it is tried again.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use trainyard_control::fetch::{Decision, Failure, History, Policy};

use crate::history::unix_ms;
use crate::status::{Fetch, Transfer};

/// How far a fetch is. Whoever fetches writes it, whoever shows the status reads it.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Option<Transfer>>);

impl Progress {
    /// Takes in how far it is. Cheap enough for every packet.
    pub fn set(&self, transfer: Transfer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(transfer);
    }

    fn get(&self) -> Option<Transfer> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fetch of one service.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    history: History,
    progress: Arc<Progress>,
    pub(super) retry: Option<Retry>,
}

/// An attempt that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// Failures so far.
    pub(super) failures: u32,
    /// How long it was from the failure.
    pub(super) delay: Duration,
    pub(super) at: std::time::Instant,
    at_ms: i64,
}

impl Fetching {
    /// Forgets earlier failures: what is fetched has changed, or a person said so.
    pub(super) fn forget(&mut self) {
        self.history = History::default();
    }

    /// An attempt begins, which tells how far it is.
    pub(super) fn begin(&mut self) -> Arc<Progress> {
        self.retry = None;
        self.progress = Arc::default();
        self.progress.clone()
    }

    /// Takes in that the attempt has failed at `now`; gives the next one, if there is to be one.
    pub(super) fn failed(&mut self, failure: Failure, now: Duration) -> Option<Retry> {
        // The standard library seeds each hasher at random.
        let random = (RandomState::new().hash_one(()) % 1000) as f64 / 1000.0;
        self.retry = match self.history.after(&Policy::LOCAL, failure, random, now) {
            Decision::GiveUp => None,
            Decision::Retry { at, failures } => {
                let delay = at.saturating_sub(now);
                Some(Retry {
                    failures,
                    delay,
                    at: std::time::Instant::now() + delay,
                    at_ms: unix_ms(SystemTime::now() + delay),
                })
            }
        };
        self.retry
    }

    /// Whether attempts have failed in a way that may pass.
    pub(super) fn has_failed(&self) -> bool {
        self.history != History::default()
    }

    /// As a status shows it, while an attempt goes on (`is_under_way`) or is to come.
    pub(super) fn status(&self, is_under_way: bool) -> Option<Fetch> {
        match self.retry {
            Some(Retry { failures, at_ms, .. }) => Some(Fetch::Retrying { failures, at_ms }),
            None => self.progress.get().filter(|_| is_under_way).map(Fetch::Transferring),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Stage;

    #[test]
    fn a_fetch_from_its_start_to_its_failure() {
        let mut fetching = Fetching::default();
        let progress = fetching.begin();
        assert_eq!(fetching.status(true), None, "nothing is known of it yet");
        let transfer = Transfer { stage: Stage::Downloading, done_bytes: 5, total_bytes: Some(9) };
        progress.set(transfer);
        assert_eq!(fetching.status(true), Some(Fetch::Transferring(transfer)));
        assert_eq!(fetching.status(false), None, "it has ended");
        let now = Duration::from_secs(50);
        let retry = fetching.failed(Failure::Transient, now).unwrap();
        assert_eq!(retry.failures, 1);
        assert!(matches!(fetching.status(false), Some(Fetch::Retrying { failures: 1, .. })));
        fetching.begin();
        assert_eq!(fetching.status(true), None);
        assert_eq!(fetching.failed(Failure::Transient, now).unwrap().failures, 2);
        fetching.forget();
        assert_eq!(fetching.failed(Failure::Transient, now).unwrap().failures, 1);
        assert_eq!(fetching.failed(Failure::Permanent, now), None);
        assert_eq!(fetching.status(false), None);
    }
}
