//! The counters of all gateways as one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use trainyard_control::autoscale::Sample;
use trainyard_control::rollout::Evidence;
use trainyard_gateway::LatencyCounts;

use super::report::{Answers, Figures, Report};

/// A gateway that said nothing for so long is not heard any more: it speaks each second.
const SILENT: Duration = Duration::from_secs(4);
/// When it is worth telling that no gateway is heard.
const UNREADABLE: Duration = Duration::from_secs(20);
/// The percentile of latency is of the requests of so long.
const WINDOW: Duration = Duration::from_secs(60);
/// Between two readings for that.
const MARK_EVERY: Duration = Duration::from_secs(5);
/// The counters of a gateway that is gone are kept for so long: its connection may come back.
const FORGET: Duration = Duration::from_secs(60);

/// What gateways said, added up.
///
/// Their counters start at different times and end with them. What each adds is the growth between
/// two of its reports, so the sum only grows, whoever comes and goes. A gateway's first report tells
/// where it starts and counts for nothing.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sources: HashMap<SocketAddr, Source>,
    instances: HashMap<String, Instance>,
    totals: HashMap<String, Total>,
}

/// Where a gateway is reached.
#[derive(Debug)]
struct Source {
    known_since: Duration,
    instance: Option<String>,
    heard_at: Option<Duration>,
    error: Option<String>,
}

/// A gateway's process.
#[derive(Debug, Default)]
struct Instance {
    heard_at: Duration,
    figures: HashMap<String, Figures>,
}

#[derive(Debug, Default)]
struct Total {
    arrivals: u64,
    request_seconds: f64,
    revisions: HashMap<String, Answered>,
}

#[derive(Debug, Default)]
struct Answered {
    requests: u64,
    failures: u64,
    latencies: LatencyCounts,
    /// Earlier readings of the latencies, oldest first.
    marks: VecDeque<(Duration, LatencyCounts)>,
}

/// Whether figures are to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// All gateways that there are speak.
    Whole,
    /// Some do.
    Part,
    /// There is none, or none has had the time to speak.
    Unknown,
    /// There are gateways, and none can be read.
    Unreadable(String),
}

impl Tally {
    /// The gateways that there are now.
    pub(super) fn known(&mut self, addresses: &HashSet<SocketAddr>, now: Duration) {
        self.sources.retain(|address, _| addresses.contains(address));
        for address in addresses {
            self.sources.entry(*address).or_insert(Source {
                known_since: now,
                instance: None,
                heard_at: None,
                error: None,
            });
        }
        let alive: HashSet<&String> =
            self.sources.values().filter_map(|source| source.instance.as_ref()).collect();
        self.instances.retain(|name, instance| {
            alive.contains(name) || now.saturating_sub(instance.heard_at) < FORGET
        });
    }

    /// A gateway cannot be read.
    pub(super) fn lost(&mut self, address: SocketAddr, error: String) {
        if let Some(source) = self.sources.get_mut(&address) {
            source.error = Some(error);
        }
    }

    /// Takes a report in. Whether requests are held for any of its services.
    pub(super) fn hear(&mut self, address: SocketAddr, report: Report, now: Duration) -> bool {
        let Some(source) = self.sources.get_mut(&address) else { return false };
        source.heard_at = Some(now);
        source.error = None;
        source.instance = Some(report.instance.clone());
        let is_new = !self.instances.contains_key(&report.instance);
        let instance = self.instances.entry(report.instance).or_default();
        instance.heard_at = now;
        let mut is_held = false;
        for (name, figures) in report.services {
            is_held |= figures.held > 0;
            let before = instance.figures.get(&name);
            let total = self.totals.entry(name.clone()).or_default();
            if !is_new {
                total.add(&figures, before);
            }
            instance.figures.insert(name, figures);
        }
        is_held
    }

    /// The load of one service; none if no gateway speaks.
    pub(super) fn sample(&self, service: &str, now: Duration) -> Option<Sample> {
        let mut heard = self.heard(now).peekable();
        heard.peek()?;
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let (mut held, mut in_flight) = (0u64, 0u64);
        for figures in heard.filter_map(|instance| instance.figures.get(service)) {
            held = held.saturating_add(figures.held);
            in_flight = in_flight.saturating_add(figures.in_flight);
        }
        let total = self.totals.get(service);
        Some(Sample {
            at: now,
            request_seconds: total.map_or(0.0, |total| total.request_seconds),
            arrivals: total.map_or(0, |total| total.arrivals),
            held: small(held),
            in_flight: small(in_flight),
        })
    }

    /// How a revision answered since this process first heard of it.
    pub(super) fn evidence(&self, service: &str, revision: &str, now: Duration) -> Evidence {
        let total = self.totals.get(service).and_then(|total| total.revisions.get(revision));
        let Some(seen) = total else { return Evidence::default() };
        let start = now.saturating_sub(WINDOW);
        // The last one before the window's start, or the oldest that there is.
        let first = seen.marks.iter().take_while(|(at, _)| *at <= start).last();
        let first = first.or(seen.marks.front()).map(|(_, counts)| counts);
        let lately =
            first.map_or_else(|| seen.latencies.clone(), |first| seen.latencies.since(first));
        Evidence { requests: seen.requests, failures: seen.failures, p99: lately.quantile(0.99) }
    }

    /// Notes the latencies so far, from time to time.
    pub(super) fn mark(&mut self, now: Duration) {
        for seen in self.totals.values_mut().flat_map(|total| total.revisions.values_mut()) {
            let is_due =
                seen.marks.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= MARK_EVERY);
            if !is_due {
                continue;
            }
            while seen.marks.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
                seen.marks.pop_front();
            }
            seen.marks.push_back((now, seen.latencies.clone()));
        }
    }

    /// Forgets the services that there are no more.
    pub(super) fn keep(&mut self, is_known: impl Fn(&str) -> bool) {
        self.totals.retain(|name, _| is_known(name));
        for instance in self.instances.values_mut() {
            instance.figures.retain(|name, _| is_known(name));
        }
    }

    /// Forgets how revisions of a service answered, but for these.
    pub(super) fn keep_revisions(&mut self, service: &str, is_known: impl Fn(&str) -> bool) {
        if let Some(total) = self.totals.get_mut(service) {
            total.revisions.retain(|name, _| is_known(name));
        }
    }

    pub(super) fn health(&self, now: Duration) -> Health {
        let speaks =
            |source: &Source| source.heard_at.is_some_and(|at| now.saturating_sub(at) < SILENT);
        let speaking = self.sources.values().filter(|source| speaks(source)).count();
        if speaking > 0 {
            return if speaking == self.sources.len() { Health::Whole } else { Health::Part };
        }
        let silent_for =
            |source: &Source| now.saturating_sub(source.heard_at.unwrap_or(source.known_since));
        match self.sources.iter().min_by_key(|(address, source)| (silent_for(source), **address)) {
            Some((address, source)) if silent_for(source) >= UNREADABLE => {
                let error = source.error.as_deref().unwrap_or("it says nothing");
                Health::Unreadable(format!("the gateway at {address} cannot be read: {error}"))
            }
            _ => Health::Unknown,
        }
    }

    /// The processes that speak, each once.
    fn heard(&self, now: Duration) -> impl Iterator<Item = &Instance> {
        let names: HashSet<&String> = self
            .sources
            .values()
            .filter(|source| source.heard_at.is_some_and(|at| now.saturating_sub(at) < SILENT))
            .filter_map(|source| source.instance.as_ref())
            .collect();
        names.into_iter().filter_map(|name| self.instances.get(name))
    }
}

impl Total {
    fn add(&mut self, now: &Figures, before: Option<&Figures>) {
        let start = Figures::default();
        // Counters that fell started anew, as of a service that left the gateway's table.
        let fell = |before: &&Figures| {
            before.arrivals > now.arrivals || before.request_seconds > now.request_seconds
        };
        let since = before.filter(|before| !fell(before)).unwrap_or(&start);
        self.arrivals = self.arrivals.saturating_add(now.arrivals.saturating_sub(since.arrivals));
        let seconds = now.request_seconds - since.request_seconds;
        // A sum that is no number would never be one again.
        if seconds.is_finite() && seconds > 0.0 {
            self.request_seconds += seconds;
        }
        for (name, answers) in &now.revisions {
            let before = before.and_then(|before| before.revisions.get(name));
            let total = self.revisions.entry(name.clone()).or_default();
            // The first time that a gateway tells of a revision shows where it starts.
            if let Some(before) = before {
                total.add(answers, before);
            }
        }
    }
}

impl Answered {
    fn add(&mut self, now: &Answers, before: &Answers) {
        let start = Answers::default();
        let fell = before.requests > now.requests || before.failures > now.failures;
        let since = if fell { &start } else { before };
        self.requests = self.requests.saturating_add(now.requests.saturating_sub(since.requests));
        self.failures = self.failures.saturating_add(now.failures.saturating_sub(since.failures));
        self.latencies.merge(&now.latencies().since(&since.latencies()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 8082))
    }

    fn tally(gateways: u8) -> Tally {
        let mut tally = Tally::default();
        tally.known(&(1..=gateways).map(address).collect(), at(0));
        tally
    }

    fn report(instance: &str, arrivals: u64, held: u64, answers: Option<(u64, u64)>) -> Report {
        let revisions = answers.map(|(requests, failures)| {
            // Each request took as long as bucket 20 says.
            let latencies = vec![(20, requests)];
            let answers = Answers { requests, failures, latencies, latency_micros: 0 };
            ("b".to_owned(), answers)
        });
        let figures = Figures {
            in_flight: held,
            held,
            arrivals,
            request_seconds: arrivals as f64,
            revisions: revisions.into_iter().collect(),
        };
        Report { instance: instance.to_owned(), services: [("n/s".to_owned(), figures)].into() }
    }

    #[track_caller]
    fn sample(tally: &Tally, now: u64, expected: Option<(u64, u32)>) {
        let sample = tally.sample("n/s", at(now));
        assert_eq!(sample.map(|sample| (sample.arrivals, sample.held)), expected);
    }

    #[test]
    fn growth_is_added_up_whoever_comes_and_goes() {
        let mut tally = tally(2);
        sample(&tally, 0, None);
        tally.hear(address(1), report("one", 1000, 0, None), at(1));
        sample(&tally, 1, Some((0, 0)));
        tally.hear(address(1), report("one", 1010, 1, None), at(2));
        tally.hear(address(2), report("two", 500, 2, None), at(2));
        sample(&tally, 2, Some((10, 3)));
        // The first one ends, another comes at its address.
        tally.hear(address(1), report("three", 7, 0, None), at(3));
        tally.hear(address(1), report("three", 9, 0, None), at(4));
        sample(&tally, 4, Some((12, 2)));
        // A connection that breaks and comes back loses nothing.
        tally.lost(address(2), "gone".to_owned());
        tally.hear(address(2), report("two", 530, 0, None), at(30));
        sample(&tally, 30, Some((42, 0)));
        // The service left the gateway's table and came back.
        tally.hear(address(2), report("two", 3, 0, None), at(31));
        sample(&tally, 31, Some((45, 0)));
    }

    #[test]
    fn a_silent_gateway_does_not_count_as_waiting() {
        let mut tally = tally(1);
        tally.hear(address(1), report("one", 5, 4, None), at(1));
        sample(&tally, 4, Some((0, 4)));
        sample(&tally, 9, None);
    }

    #[test]
    fn health_table() {
        let mut tally = tally(2);
        assert_eq!(tally.health(at(1)), Health::Unknown);
        tally.lost(address(1), "connection refused".to_owned());
        assert!(matches!(tally.health(at(25)), Health::Unreadable(_)));
        tally.hear(address(1), report("one", 0, 0, None), at(26));
        assert_eq!(tally.health(at(26)), Health::Part);
        tally.hear(address(2), report("two", 0, 0, None), at(26));
        assert_eq!(tally.health(at(27)), Health::Whole);
        assert_eq!(tally.health(at(35)), Health::Unknown);
        tally.known(&HashSet::new(), at(36));
        assert_eq!(tally.health(at(99)), Health::Unknown);
    }

    #[test]
    fn evidence_of_all_gateways() {
        let mut tally = tally(2);
        for (last, instance) in [(1, "one"), (2, "two")] {
            tally.hear(address(last), report(instance, 0, 0, Some((100, 50))), at(1));
            // From here on it counts.
            tally.hear(address(last), report(instance, 0, 0, Some((110, 52))), at(2));
            tally.hear(address(last), report(instance, 0, 0, Some((130, 53))), at(3));
        }
        let seen = tally.evidence("n/s", "b", at(3));
        assert_eq!((seen.requests, seen.failures), (60, 6));
        assert!(seen.p99.is_some());
        // A minute without requests has no percentile.
        tally.mark(at(4));
        assert_eq!(tally.evidence("n/s", "b", at(70)).p99, None);
        assert_eq!(tally.evidence("n/s", "other", at(70)), Evidence::default());
        tally.keep_revisions("n/s", |name| name != "b");
        assert_eq!(tally.evidence("n/s", "b", at(70)), Evidence::default());
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        let mut tally = tally(1);
        tally.hear(address(1), report("one", 1, 0, None), at(1));
        let mut odd = report("one", 2, 0, None);
        odd.services.get_mut("n/s").expect("there").request_seconds = f64::NAN;
        tally.hear(address(1), odd, at(2));
        tally.hear(address(1), report("one", 3, 0, None), at(3));
        let sample = tally.sample("n/s", at(3)).expect("heard");
        assert!(sample.request_seconds.is_finite());
    }
}
