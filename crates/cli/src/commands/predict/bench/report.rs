//! What a benchmark tells.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::client::Target;
use super::connection::Failure;
use super::drive::{Load, Outcome};
use super::histogram::Histogram;
use crate::table::table;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
/// Width of the longest bar.
const BAR: usize = 40;

pub(super) fn announce(load: &Load, target: &Target) -> String {
    let how = match load.rate {
        Some(rate) => format!("{rate} requests/s over up to {} connections", load.connections),
        None => format!("{} connections", load.connections),
    };
    format!("{}: {how} for {}", target.infer_url(), shown(load.duration))
}

pub(super) fn as_text(load: &Load, outcome: &Outcome) -> String {
    let latencies = &outcome.latencies;
    let failed: u64 = outcome.failures.values().sum();
    let mut rows = vec![
        ("requests", latencies.total().to_string()),
        ("throughput", format!("{:.1} requests/s", throughput(outcome))),
        ("failed", failed.to_string()),
    ];
    if latencies.total() > 0 {
        rows.push(("mean", shown(latencies.mean())));
        for (name, share) in QUANTILES {
            rows.push((name, shown(latencies.quantile(share))));
        }
        rows.push(("max", shown(latencies.max())));
    }
    let mut text = table(&[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    if latencies.total() > 0 {
        text.push_str("\n\n");
        text.push_str(&bars(latencies));
    }
    for (failure, count) in &outcome.failures {
        text.push_str(&format!("\n{count} failed: {}", words(failure)));
    }
    if let Some(warning) = warning(load, outcome) {
        text.push_str(&format!("\n{warning}"));
    }
    text
}

pub(super) fn as_json(load: &Load, outcome: &Outcome) -> Value {
    let latencies = &outcome.latencies;
    let milliseconds = |latency: Duration| latency.as_secs_f64() * 1000.0;
    let mut latency: Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, share)| ((*name).to_owned(), json!(milliseconds(latencies.quantile(*share)))))
        .collect();
    latency.insert("mean".to_owned(), json!(milliseconds(latencies.mean())));
    latency.insert("min".to_owned(), json!(milliseconds(latencies.min())));
    latency.insert("max".to_owned(), json!(milliseconds(latencies.max())));
    let failures: Map<String, Value> =
        outcome.failures.iter().map(|(failure, count)| (words(failure), json!(count))).collect();
    json!({
        "connections": load.connections,
        "rate": load.rate,
        "seconds": outcome.elapsed.as_secs_f64(),
        "requests": latencies.total(),
        "requests_per_second": throughput(outcome),
        "latency_ms": latency,
        "failures": failures,
        "unsent": outcome.unsent,
    })
}

fn throughput(outcome: &Outcome) -> f64 {
    outcome.latencies.total() as f64 / outcome.elapsed.as_secs_f64().max(1e-9)
}

fn words(failure: &Failure) -> String {
    match failure {
        Failure::Connect => "no connection".to_owned(),
        Failure::Closed => "the connection was closed".to_owned(),
        Failure::Timeout => "no answer in time".to_owned(),
        Failure::Status(status) => format!("status {status}"),
    }
}

fn warning(load: &Load, outcome: &Outcome) -> Option<String> {
    load.rate.filter(|_| outcome.unsent > 0).map(|_| {
        format!(
            "{} requests were due and could not be sent: the rate is more than {} connections carry",
            outcome.unsent, load.connections
        )
    })
}

/// A bar for each doubling by the square root of two, from the fastest to the slowest.
fn bars(latencies: &Histogram) -> String {
    let mut edge = latencies.min().as_secs_f64().max(1e-9) * 0.999;
    let end = latencies.max().as_secs_f64();
    let mut rows: Vec<(Duration, u64)> = Vec::new();
    // 2^(1/2) per row: 40 rows span a factor of a million.
    while edge <= end && rows.len() < 80 {
        let next = edge * std::f64::consts::SQRT_2;
        let below = Duration::from_secs_f64(next);
        // Rows meet at a bucket's edge, so that each latency is in one row; the last row takes the
        // bucket of the maximum whole.
        let high = if next > end { Duration::MAX } else { below };
        rows.push((below, latencies.count_between(Duration::from_secs_f64(edge), high)));
        edge = next;
    }
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let lines = rows.iter().map(|(below, count)| {
        let length = (*count as f64 / most as f64 * BAR as f64).round() as usize;
        // What happened at all is seen.
        let length = length.max(usize::from(*count > 0));
        vec![format!("< {}", shown(*below)), count.to_string(), "#".repeat(length)]
    });
    table(&[], lines)
}

/// Three digits and a unit.
fn shown(latency: Duration) -> String {
    let seconds = latency.as_secs_f64();
    let (value, unit) = match seconds {
        _ if seconds >= 1.0 => (seconds, "s"),
        _ if seconds >= 1e-3 => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    };
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> (Load, Outcome) {
        let load = Load {
            connections: 4,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(2),
            rate: Some(500.0),
        };
        let mut outcome =
            Outcome { elapsed: Duration::from_secs(2), unsent: 3, ..Outcome::default() };
        for microseconds in (100..1100).chain([9000]) {
            outcome.latencies.record(Duration::from_micros(microseconds));
        }
        outcome.failures.insert(Failure::Status(503), 2);
        (load, outcome)
    }

    #[test]
    fn people_see_the_shape() {
        let (load, outcome) = outcome();
        insta::assert_snapshot!(as_text(&load, &outcome), @r"
        requests    1001
        throughput  500.5 requests/s
        failed      2
        mean        608 µs
        p50         602 µs
        p90         1.00 ms
        p99         1.09 ms
        p99.9       1.11 ms
        max         9.00 ms

        < 141 µs   40   #####
        < 200 µs   59   ########
        < 283 µs   80   ##########
        < 400 µs   119  ################
        < 565 µs   160  #####################
        < 799 µs   237  ###############################
        < 1.13 ms  305  ########################################
        < 1.60 ms  0
        < 2.26 ms  0
        < 3.20 ms  0
        < 4.52 ms  0
        < 6.39 ms  0
        < 9.04 ms  1    #
        2 failed: status 503
        3 requests were due and could not be sent: the rate is more than 4 connections carry
        ");
    }

    #[test]
    fn programs_see_numbers() {
        let (load, outcome) = outcome();
        let json = as_json(&load, &outcome);
        assert_eq!(json["requests"], 1001);
        assert_eq!(json["requests_per_second"], 500.5);
        assert_eq!(json["failures"]["status 503"], 2);
        assert_eq!(json["latency_ms"]["max"], 9.0);
    }

    #[test]
    fn nothing_answered() {
        let (load, _) = outcome();
        let none = Outcome { elapsed: Duration::from_secs(1), ..Outcome::default() };
        assert!(as_text(&load, &none).starts_with("requests    0\n"));
    }
}
