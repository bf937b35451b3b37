//! How one revision answers: the evidence on which a rollout goes on or stops.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::latency::{Latencies, LatencyCounts};

/// What was seen of one revision. Counters only grow; two readings give a window.
///
/// A request that was tried on two revisions counts for both, so a revision that fails is seen to
/// fail even where a retry hid it from the client. Mirrored requests count too. Requests that a
/// client gave up before an answer came are not counted: they say nothing about the revision.
#[derive(Debug, Clone, PartialEq)]
pub struct RevisionLoad {
    pub at: Instant,
    /// Requests in flight at the revision's replicas, mirrored ones included.
    pub in_flight: u64,
    /// Attempts that ended, well or badly.
    pub requests: u64,
    /// Of these, how many failed: no connection, no answer in time, a broken answer, a 5xx status,
    /// or one of gRPC's codes for the server's own mistakes.
    pub failures: u64,
    /// From sending a request to the head of its answer. For streams this is the first message.
    pub latencies: LatencyCounts,
}

impl RevisionLoad {
    /// What happened after an `earlier` reading; `at` and `in_flight` stay as they are.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            at: self.at,
            in_flight: self.in_flight,
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
            latencies: self.latencies.since(&earlier.latencies),
        }
    }

    /// Share of requests that failed, 0.0 to 1.0; `None` without requests.
    pub fn error_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.failures as f64 / self.requests as f64)
    }

    /// 99th percentile of latency, at most an eighth too high; `None` without answers.
    pub fn p99(&self) -> Option<Duration> {
        self.latencies.quantile(0.99)
    }
}

/// The counters of one revision of one service.
#[derive(Debug)]
pub(crate) struct RevisionState {
    pub(crate) name: String,
    pub(crate) in_flight: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    latencies: Latencies,
    pub(crate) codes: Codes,
}

impl RevisionState {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            latencies: Latencies::default(),
            codes: Codes::default(),
        }
    }

    pub(crate) fn note(&self, failed: bool, latency: Option<Duration>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        if let Some(latency) = latency {
            self.latencies.note(latency);
        }
    }

    pub(crate) fn read(&self, now: Instant) -> RevisionLoad {
        RevisionLoad {
            at: now,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            latencies: self.latencies.read(),
        }
    }
}

/// The status of an answer, in the words of its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Http(http::StatusCode),
    /// 0 to 16.
    Grpc(u8),
}

/// How many answers had each code.
#[derive(Debug)]
pub(crate) struct Codes {
    http: Box<[AtomicU64]>,
    grpc: [AtomicU64; 17],
}

const FIRST_STATUS: u16 = 100;

impl Default for Codes {
    fn default() -> Self {
        let http = (FIRST_STATUS..600).map(|_| AtomicU64::new(0)).collect();
        Self { http, grpc: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Codes {
    pub(crate) fn note(&self, code: Code) {
        let count = match code {
            Code::Http(status) => self.http.get(usize::from(status.as_u16() - FIRST_STATUS)),
            Code::Grpc(code) => self.grpc.get(usize::from(code)),
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Protocol, code and count of each code that was seen.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let some = |count: &AtomicU64| Some(count.load(Ordering::Relaxed)).filter(|n| *n > 0);
        let http = (FIRST_STATUS..).zip(&self.http);
        let http = http.filter_map(move |(code, count)| Some(("http", code, some(count)?)));
        let grpc = (0..).zip(&self.grpc);
        http.chain(grpc.filter_map(move |(code, count)| Some(("grpc", code, some(count)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_give_a_window() {
        let state = RevisionState::new("r1");
        let now = Instant::now();
        state.note(true, None);
        let first = state.read(now);
        assert_eq!((first.error_rate(), first.p99()), (Some(1.0), None));
        for ms in 1..=4 {
            state.note(ms == 4, Some(Duration::from_millis(ms)));
        }
        let window = state.read(now).since(&first);
        assert_eq!((window.requests, window.failures), (4, 1));
        assert_eq!(window.error_rate(), Some(0.25));
        let p99 = window.p99().unwrap();
        assert!((4_000..=4_500).contains(&p99.as_micros()), "{p99:?}");
        assert_eq!(window.since(&window).error_rate(), None);
    }

    #[test]
    fn codes_are_counted_by_protocol() {
        let codes = Codes::default();
        codes.note(Code::Http(http::StatusCode::OK));
        codes.note(Code::Http(http::StatusCode::OK));
        codes.note(Code::Http(http::StatusCode::from_u16(999).unwrap()));
        codes.note(Code::Grpc(14));
        codes.note(Code::Grpc(200));
        assert_eq!(codes.seen().collect::<Vec<_>>(), [("http", 200, 2), ("grpc", 14, 1)]);
    }
}
