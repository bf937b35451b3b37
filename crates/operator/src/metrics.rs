//! What `/metrics` says: the names that dashboards for controllers know, and a few of our own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::cluster::RequestCounts;
use crate::key::Declared;
use crate::queue::Queue;
use crate::world::World;

/// The controller's name in metrics, as controller-runtime would derive it.
const CONTROLLER: &str = "modelservice";

/// Upper edges in seconds: most reconciles decide in a millisecond and write nothing, some make a
/// dozen requests, and some wait for a busy server.
const EDGES: [f64; 13] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    verb: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    resource: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    mode: &'static str,
    outcome: &'static str,
}

/// The operator's counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    reconciles: Family<ResultLabels, Counter>,
    errors: Family<ControllerLabels, Counter>,
    took: Took,
    writes: Family<WriteLabels, Counter>,
    repairs: Family<WatchLabels, Counter>,
    watch_failures: Family<WatchLabels, Counter>,
    dropped_events: Counter<u64, AtomicU64>,
    leading: Family<LeaseLabels, Gauge<i64, AtomicI64>>,
    reviews: Family<ReviewLabels, Counter>,
}

#[derive(Debug)]
struct Took(Family<ControllerLabels, Histogram>);

impl Default for Took {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(EDGES)))
    }
}

impl Metrics {
    pub(crate) fn reconciled(&self, result: &'static str, took: Duration) {
        let controller = CONTROLLER;
        self.reconciles.get_or_create(&ResultLabels { controller, result }).inc();
        let labels = ControllerLabels { controller };
        self.took.0.get_or_create(&labels).observe(took.as_secs_f64());
        let errors = self.errors.get_or_create(&labels);
        if result == "error" {
            errors.inc();
        }
    }

    /// A request that changes something in the cluster, by us.
    pub(crate) fn wrote(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, verb }).inc();
    }

    pub(crate) fn repaired(&self, resource: &'static str) {
        self.repairs.get_or_create(&WatchLabels { resource }).inc();
    }

    pub(crate) fn watch_failed(&self, resource: &'static str) {
        self.watch_failures.get_or_create(&WatchLabels { resource }).inc();
    }

    pub(crate) fn dropped_event(&self) {
        self.dropped_events.inc();
    }

    pub(crate) fn leads(&self, lease: &str, leads: bool) {
        self.leading.get_or_create(&LeaseLabels { name: lease.to_owned() }).set(i64::from(leads));
    }

    /// An object that the lint webhook was asked about.
    pub(crate) fn reviewed(&self, mode: &'static str, outcome: &'static str) {
        self.reviews.get_or_create(&ReviewLabels { mode, outcome }).inc();
    }

    /// Registers everything that is counted.
    pub(crate) fn registry(
        &self,
        queue: Arc<Queue>,
        world: Arc<World>,
        requests: RequestCounts,
        workers: usize,
    ) -> Registry {
        let mut registry = Registry::default();
        let reconcile = |what: &str| format!("controller_runtime_reconcile{what}");
        registry.register(reconcile(""), "Reconciles by result", self.reconciles.clone());
        registry.register(reconcile("_errors"), "Reconciles that failed", self.errors.clone());
        registry.register_with_unit(
            reconcile("_time"),
            "How long reconciles take",
            Unit::Seconds,
            self.took.0.clone(),
        );
        registry.register(
            "trainyard_operator_writes",
            "Requests that change something in the cluster",
            self.writes.clone(),
        );
        registry.register(
            "trainyard_operator_drift_repaired",
            "Objects that somebody changed and that were applied again",
            self.repairs.clone(),
        );
        registry.register(
            "trainyard_operator_watch_failures",
            "Interruptions of watches",
            self.watch_failures.clone(),
        );
        registry.register(
            "trainyard_operator_events_dropped",
            "Events that were not published since too many waited",
            self.dropped_events.clone(),
        );
        registry.register(
            "leader_election_master_status",
            "Whether this process is the one that acts",
            self.leading.clone(),
        );
        registry.register(
            "trainyard_lint_reviews",
            "Objects that the lint webhook was asked about",
            self.reviews.clone(),
        );
        registry.register_collector(Box::new(Observed { queue, world, requests, workers }));
        registry
    }
}

/// What others count, read when it is asked for.
#[derive(Debug)]
struct Observed {
    queue: Arc<Queue>,
    world: Arc<World>,
    requests: RequestCounts,
    workers: usize,
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let figures = self.queue.figures();
        let of_queue = [("controller", CONTROLLER), ("name", CONTROLLER)];
        let of_controller = [("controller", CONTROLLER)];
        let mut gauge = |name: &str, help: &str, labels: &[(&str, &str)], value: usize| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(metric.encode_family(&labels)?)
        };
        gauge("workqueue_depth", "Services that wait for a worker", &of_queue, figures.depth)?;
        let active = "controller_runtime_active_workers";
        gauge(active, "Services that are being reconciled", &of_controller, figures.running)?;
        let most = "controller_runtime_max_concurrent_reconciles";
        gauge(most, "Services that may be reconciled at once", &of_controller, self.workers)?;
        let services = self.world.count(Declared::ModelService);
        let jobs = self.world.count(Declared::TrainingJob);
        let (objects, pods) = self.world.sizes();
        gauge("trainyard_operator_services", "Services that are known", &[], services)?;
        gauge("trainyard_operator_jobs", "Training jobs that are known", &[], jobs)?;
        gauge("trainyard_operator_objects", "Objects of theirs that are known", &[], objects)?;
        gauge("trainyard_operator_pods", "Pods of theirs that are known", &[], pods)?;
        for (name, help, value) in [
            ("workqueue_adds", "Services that were put into the queue", figures.adds),
            ("workqueue_retries", "Services that were put back after a failure", figures.retries),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric.encode_family(&of_queue)?)?;
        }
        let help = "Requests to the API server; code 0 is no answer";
        let mut metric =
            encoder.encode_descriptor("rest_client_requests", help, None, MetricType::Counter)?;
        for ((method, code), count) in self.requests.snapshot() {
            let labels = [("code", code.to_string()), ("method", method)];
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[test]
fn the_names_that_dashboards_know() {
    let metrics = Metrics::default();
    metrics.reconciled("success", Duration::from_millis(3));
    metrics.leads(crate::names::OPERATOR, true);
    let (queue, world) = (Arc::new(Queue::default()), Arc::new(World::default()));
    let registry = metrics.registry(queue, world, RequestCounts::default(), 8);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    for line in [
        "controller_runtime_reconcile_total{controller=\"modelservice\",result=\"success\"} 1",
        "controller_runtime_reconcile_errors_total{controller=\"modelservice\"} 0",
        "controller_runtime_reconcile_time_seconds_count{controller=\"modelservice\"} 1",
        "controller_runtime_max_concurrent_reconciles{controller=\"modelservice\"} 8",
        "workqueue_depth{controller=\"modelservice\",name=\"modelservice\"} 0",
        "workqueue_adds_total{controller=\"modelservice\",name=\"modelservice\"} 0",
        "leader_election_master_status{name=\"trainyard-operator\"} 1",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}
