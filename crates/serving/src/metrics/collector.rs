//! Puts the counters of all versions into OpenMetrics' form.
//!
//! Triton's dashboards and autoscalers ask for `nv_inference_request_success`, and OpenMetrics
//! demands that a counter's samples end in `_total`. So metrics with Triton's names are declared as
//! of unknown type, whose samples are named as they are; Prometheus computes `rate()` of them all
//! the same, since it looks at values and not at types. Our own counters are counters.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use super::Versions;
use super::counters::{CLOSES, Failure, Totals};
use super::histogram::{BATCH_BOUNDS, LATENCY_BOUNDS_US};

#[derive(Debug)]
pub(super) struct Collector {
    versions: Arc<Versions>,
}

impl Collector {
    pub(super) fn new(versions: Arc<Versions>) -> Self {
        Self { versions }
    }

    fn snapshot(&self) -> Vec<Row> {
        let entries = self.versions.lock();
        entries
            .iter()
            .map(|((model, version), entry)| {
                let mut totals = entry.retired.clone();
                entry.live.iter().for_each(|counters| totals.add(&counters.totals()));
                let pending =
                    |counters: &Arc<super::Counters>| counters.pending.load(Ordering::Relaxed);
                Row {
                    model: Arc::clone(model),
                    version: version.to_string(),
                    totals,
                    pending: entry.live.iter().map(pending).sum(),
                }
            })
            .collect()
    }
}

/// One version at the moment of asking.
struct Row {
    model: Arc<str>,
    version: String,
    totals: Totals,
    pending: usize,
}

impl Row {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("model", &self.model), ("version", &self.version)]
    }

    fn labels_with<'a>(&'a self, reason: &'a str) -> [(&'static str, &'a str); 3] {
        [("model", &self.model), ("version", &self.version), ("reason", reason)]
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.snapshot();
        if rows.is_empty() {
            return Ok(());
        }
        for (name, help, value) in TRITON {
            let metric_type = MetricType::Unknown;
            let mut metric = encoder.encode_descriptor(name, help, None, metric_type)?;
            for row in &rows {
                metric.encode_family(&row.labels())?.encode_gauge(&value(&row.totals))?;
            }
        }
        triton_failures(&mut encoder, &rows)?;

        let mut metric = encoder.encode_descriptor(
            "nv_inference_pending_request_count",
            "Requests that wait to be run.",
            None,
            MetricType::Gauge,
        )?;
        for row in &rows {
            metric.encode_family(&row.labels())?.encode_gauge(&row.pending)?;
        }

        counters(
            &mut encoder,
            "trainyard_request_failure",
            "Requests that were not answered, by reason.",
            &rows,
            |row| Failure::ALL.iter().map(|one| one.as_str()).zip(&row.totals.failures).collect(),
        )?;
        counters(
            &mut encoder,
            "trainyard_batch_close",
            "Executions, by why the batch was not waited for any longer.",
            &rows,
            |row| CLOSES.iter().map(|one| one.as_str()).zip(&row.totals.closes).collect(),
        )?;

        let mut metric = encoder.encode_descriptor(
            "trainyard_batch_size",
            "Batch elements that ran together.",
            None,
            MetricType::Histogram,
        )?;
        for row in &rows {
            let (sum, counts) = (row.totals.inferences as f64, &row.totals.batch_sizes);
            let buckets = buckets(BATCH_BOUNDS.iter().map(|bound| *bound as f64), counts);
            encode_histogram(&mut metric, &row.labels(), sum, &buckets)?;
        }
        for (name, help, value) in LATENCIES {
            let metric_type = MetricType::Histogram;
            let mut metric =
                encoder.encode_descriptor(name, help, Some(&Unit::Seconds), metric_type)?;
            for row in &rows {
                let (nanoseconds, counts) = value(&row.totals);
                let bounds = LATENCY_BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6);
                let buckets = buckets(bounds, counts);
                encode_histogram(&mut metric, &row.labels(), nanoseconds as f64 / 1e9, &buckets)?;
            }
        }
        Ok(())
    }
}

type Of<T> = fn(&Totals) -> T;

/// Triton's counters, named and described as Triton does.
const TRITON: [(&str, &str, Of<u64>); 8] = [
    ("nv_inference_request_success", "Requests that were answered.", |totals| totals.success),
    ("nv_inference_count", "Batch elements that were run.", |totals| totals.inferences),
    ("nv_inference_exec_count", "Executions of the model.", |totals| totals.executions),
    (
        "nv_inference_request_duration_us",
        "Microseconds from a request's arrival to its answer, summed up.",
        |totals| totals.success_ns / 1000,
    ),
    ("nv_inference_queue_duration_us", "Microseconds that requests waited, summed up.", |totals| {
        totals.queue_ns / 1000
    }),
    (
        "nv_inference_compute_input_duration_us",
        "Microseconds of putting inputs together, summed up over requests.",
        |totals| totals.input_ns / 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Microseconds in the engine, summed up over requests.",
        |totals| totals.infer_ns / 1000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Microseconds of taking outputs apart, summed up over requests.",
        |totals| totals.output_ns / 1000,
    ),
];

type Latency = for<'a> fn(&'a Totals) -> (u64, &'a Vec<u64>);

/// Histograms in seconds: nanoseconds summed up, and buckets.
const LATENCIES: [(&str, &str, Latency); 3] = [
    ("trainyard_queue", "Time that an answered request waited.", |totals| {
        (totals.queue_ns, &totals.queue)
    }),
    ("trainyard_compute", "Time that an answered request's batch took.", |totals| {
        let sum = totals.input_ns.wrapping_add(totals.infer_ns).wrapping_add(totals.output_ns);
        (sum, &totals.compute)
    }),
    ("trainyard_inference", "Time from a request's arrival to its answer.", |totals| {
        (totals.success_ns, &totals.total)
    }),
];

fn triton_failures(encoder: &mut DescriptorEncoder<'_>, rows: &[Row]) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(
        "nv_inference_request_failure",
        "Requests that were not answered, by reason.",
        None,
        MetricType::Unknown,
    )?;
    for row in rows {
        for reason in ["REJECTED", "CANCELED", "BACKEND", "OTHER"] {
            let count: u64 = Failure::ALL
                .iter()
                .zip(&row.totals.failures)
                .filter(|(failure, _)| failure.triton() == reason)
                .map(|(_, count)| *count)
                .sum();
            metric.encode_family(&row.labels_with(reason))?.encode_gauge(&count)?;
        }
    }
    Ok(())
}

/// A counter with a label `reason`.
fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[Row],
    by_reason: for<'a> fn(&'a Row) -> Vec<(&'static str, &'a u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for row in rows {
        for (reason, count) in by_reason(row) {
            metric
                .encode_family(&row.labels_with(reason))?
                .encode_counter(count, None::<&Exemplar<NoLabelSet, u64>>)?;
        }
    }
    Ok(())
}

fn buckets(bounds: impl Iterator<Item = f64>, counts: &[u64]) -> Vec<(f64, u64)> {
    bounds.chain([f64::INFINITY]).zip(counts.iter().copied()).collect()
}

fn encode_histogram(
    metric: &mut prometheus_client::encoding::MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    sum: f64,
    buckets: &[(f64, u64)],
) -> fmt::Result {
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
}
