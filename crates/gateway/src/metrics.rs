//! What `/metrics` says about the gateway. Read from the counters when asked, so that a request
//! pays for no registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::eject::Health;
use crate::latency::LatencyCounts;
use crate::revision::Codes;
use crate::state::{Counts, Routing, ServiceState};

/// Upper edges of the latency buckets, in seconds: 50 µs to 60 s.
const EDGES: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

type Encoded = Result<(), std::fmt::Error>;

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) routing: Arc<ArcSwap<Routing>>,
    /// Answers of the gateway that concern no service.
    pub(crate) own: Arc<Codes>,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let routing = self.routing.load();
        self.requests(&routing, &mut encoder)?;
        latency(&routing, &mut encoder)?;
        in_flight(&routing, &mut encoder)?;
        let held = |service: &ServiceState| service.queue.len() as i64;
        gauge(&routing, &mut encoder, "held", "Requests that wait for a replica", held)?;
        let out = |service: &ServiceState| {
            let now = Instant::now();
            let config = service.config.load();
            let ejected = config
                .endpoints()
                .filter(|endpoint| matches!(endpoint.health(now), Health::Ejected(_)));
            ejected.count() as i64
        };
        gauge(&routing, &mut encoder, "ejected", "Replicas that get no requests for now", out)?;
        counters(&routing, &mut encoder)
    }
}

impl Metrics {
    fn requests(&self, routing: &Routing, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
        let help = "Requests answered, by the revision that answered; without one, by the gateway";
        let mut metric = encoder.encode_descriptor(
            "trainyard_gateway_requests",
            help,
            None,
            MetricType::Counter,
        )?;
        codes(&mut metric, "", "", &self.own)?;
        for (name, service) in &routing.services {
            codes(&mut metric, name, "", &service.refused)?;
            for revision in &service.config.load().revisions {
                codes(&mut metric, name, &revision.state.name, &revision.state.codes)?;
            }
        }
        Ok(())
    }
}

fn codes(metric: &mut MetricEncoder<'_>, service: &str, revision: &str, codes: &Codes) -> Encoded {
    for (protocol, code, count) in codes.seen() {
        let labels = [
            ("service", service.to_owned()),
            ("revision", revision.to_owned()),
            ("protocol", protocol.to_owned()),
            ("code", code.to_string()),
        ];
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn latency(routing: &Routing, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    let help = "From sending a request to the head of its answer";
    let mut metric = encoder.encode_descriptor(
        "trainyard_gateway_latency",
        help,
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (name, service) in &routing.services {
        for revision in &service.config.load().revisions {
            let latencies = revision.state.read(Instant::now()).latencies;
            let labels = revision_labels(name, &revision.state.name);
            Histogram(&latencies).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

struct Histogram<'a>(&'a LatencyCounts);

impl EncodeMetric for Histogram<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Encoded {
        let sum = self.0.sum().as_secs_f64();
        encoder.encode_histogram::<[(&str, &str); 0]>(
            sum,
            self.0.count(),
            &self.0.up_to(&EDGES),
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn in_flight(routing: &Routing, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    let help = "Requests at replicas, mirrored ones included";
    let name = "trainyard_gateway_in_flight";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (name, service) in &routing.services {
        for revision in &service.config.load().revisions {
            let value = revision.state.in_flight.load(Ordering::Relaxed) as i64;
            let labels = revision_labels(name, &revision.state.name);
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn gauge(
    routing: &Routing,
    encoder: &mut DescriptorEncoder<'_>,
    what: &str,
    help: &str,
    value: impl Fn(&ServiceState) -> i64,
) -> Encoded {
    let name = format!("trainyard_gateway_{what}");
    let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    for (name, service) in &routing.services {
        let labels = [("service", name.to_string())];
        ConstGauge::new(value(service)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Name, help, and where the counter is.
type Counter = (&'static str, &'static str, fn(&Counts) -> &AtomicU64);

const COUNTERS: [Counter; 7] = [
    ("retries", "Requests sent again to another replica", |counts| &counts.retries),
    ("retries_denied", "Retries that the budget did not allow", |counts| &counts.retries_denied),
    ("ejections", "Times that a replica was taken out for failing", |counts| &counts.ejections),
    ("connect_errors", "Connections to replicas that failed", |counts| &counts.connect_errors),
    ("holds", "Requests that had to wait for a replica", |counts| &counts.held),
    ("mirrored", "Copies of requests sent to a mirror", |counts| &counts.mirrored),
    ("mirrors_dropped", "Copies that found no room or no replica", |counts| {
        &counts.mirrors_dropped
    }),
];

fn counters(routing: &Routing, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    for (what, help, count) in COUNTERS {
        let name = format!("trainyard_gateway_{what}");
        let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (name, service) in &routing.services {
            let labels = [("service", name.to_string())];
            let count = count(&service.counts).load(Ordering::Relaxed);
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn revision_labels(service: &str, revision: &str) -> [(&'static str, String); 2] {
    [("service", service.to_owned()), ("revision", revision.to_owned())]
}
