//! What a gateway says: lines of JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trainyard_gateway::{LatencyCounts, RevisionLoad, ServiceFigures};

/// One line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// The gateway's process. Its counters only grow while this is the same.
    pub(super) instance: String,
    /// Services whose figures changed, as `NAMESPACE/NAME`. In the first line of a connection those
    /// that are left out had no request yet.
    #[serde(default)]
    pub(super) services: BTreeMap<String, Figures>,
}

/// Of one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) in_flight: u64,
    /// Of these, those that wait for a replica.
    pub(super) held: u64,
    pub(super) arrivals: u64,
    /// The integral of `inFlight` over time.
    pub(super) request_seconds: f64,
    /// By name, where there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) revisions: BTreeMap<String, Answers>,
}

/// Of one revision.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answers {
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// As [`LatencyCounts::parts`] has them.
    pub(super) latencies: Vec<(u16, u64)>,
    pub(super) latency_micros: u64,
}

impl Answers {
    fn of(load: &RevisionLoad) -> Self {
        let (latencies, latency_micros) = load.latencies.parts();
        let RevisionLoad { requests, failures, .. } = *load;
        Self { requests, failures, latencies, latency_micros }
    }

    pub(super) fn latencies(&self) -> LatencyCounts {
        LatencyCounts::from_parts(&self.latencies, self.latency_micros)
    }
}

impl Figures {
    fn of(seen: &ServiceFigures) -> Self {
        let revisions = seen.revisions.iter();
        Self {
            in_flight: seen.load.in_flight,
            held: seen.load.held,
            arrivals: seen.load.arrivals,
            request_seconds: seen.load.request_seconds,
            revisions: revisions.map(|(name, load)| (name.clone(), Answers::of(load))).collect(),
        }
    }
}

/// Tells one listener what changed since it was told last.
#[derive(Debug)]
pub(super) struct Reporter {
    instance: String,
    told: BTreeMap<String, Figures>,
}

impl Reporter {
    pub(super) fn new(instance: String) -> Self {
        Self { instance, told: BTreeMap::new() }
    }

    /// The next line, which may tell of no service: that the gateway lives is news too.
    pub(super) fn next(&mut self, seen: &[ServiceFigures]) -> Report {
        let mut report = Report { instance: self.instance.clone(), services: BTreeMap::new() };
        let mut told = std::mem::take(&mut self.told);
        for service in seen {
            let figures = Figures::of(service);
            let before = told.remove(&*service.name).unwrap_or_default();
            if figures != before {
                report.services.insert(service.name.to_string(), figures.clone());
            }
            if figures != Figures::default() {
                self.told.insert(service.name.to_string(), figures);
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use trainyard_gateway::ServiceLoad;

    use super::*;

    fn seen(arrivals: u64, held: u64) -> Vec<ServiceFigures> {
        let load = ServiceLoad {
            at: Instant::now(),
            in_flight: held,
            held,
            arrivals,
            request_seconds: 0.0,
        };
        vec![
            ServiceFigures { name: "a/iris".into(), load, revisions: Vec::new() },
            ServiceFigures {
                name: "a/idle".into(),
                load: ServiceLoad { in_flight: 0, held: 0, arrivals: 0, ..load },
                revisions: Vec::new(),
            },
        ]
    }

    #[test]
    fn only_changes_are_told() {
        let mut reporter = Reporter::new("i".to_owned());
        let told = |report: Report| report.services.into_keys().collect::<Vec<_>>();
        assert_eq!(told(reporter.next(&seen(3, 0))), ["a/iris"]);
        assert!(told(reporter.next(&seen(3, 0))).is_empty());
        assert_eq!(told(reporter.next(&seen(3, 1))), ["a/iris"]);
        // It left the table, and came back with fresh counters.
        assert!(told(reporter.next(&[])).is_empty());
        assert_eq!(told(reporter.next(&seen(1, 0))), ["a/iris"]);
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let answers = Answers { requests: 3, latencies: vec![(4, 2)], ..Answers::default() };
        let figures =
            Figures { revisions: [("r".to_owned(), answers)].into(), ..Figures::default() };
        let report = Report { instance: "i".into(), services: [("a/b".into(), figures)].into() };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
