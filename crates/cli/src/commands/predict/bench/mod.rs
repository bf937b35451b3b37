//! `predict --bench`: load on a model, and what it did to latency.

mod connection;
mod drive;
mod histogram;
mod report;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use trainyard_api::scalar::Period;

use self::drive::Load;
use super::client::Target;
use super::wire::Request;
use crate::print::print_line;

#[derive(Args)]
#[command(next_help_heading = "Benchmark")]
pub(super) struct Options {
    /// Send the request over and over, and print throughput and latency
    #[arg(long)]
    pub(super) bench: bool,
    /// Connections; each has one request in flight
    #[arg(short, long, default_value = "32", requires = "bench")]
    concurrency: NonZeroUsize,
    /// How long to measure
    #[arg(long, default_value = "10s", requires = "bench")]
    duration: Period,
    /// Send so many requests a second, whether answers come or not; latency then counts from when
    /// a request was due
    #[arg(long, value_name = "PER_SECOND", value_parser = positive, requires = "bench")]
    rate: Option<f64>,
    /// How long to send before measuring
    #[arg(long, default_value = "1s", requires = "bench")]
    warmup: Period,
    /// Print JSON
    #[arg(long, requires = "bench")]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=1e7).contains(&rate) => Ok(rate),
        _ => Err("expected a number of requests from 0.001 to 10000000".to_owned()),
    }
}

/// Exit code 1 tells that requests failed.
pub(super) async fn run(
    options: &Options,
    target: &Target,
    request: &Request,
) -> miette::Result<ExitCode> {
    let load = Load {
        connections: options.concurrency.get(),
        warmup: options.warmup.0,
        duration: options.duration.0.max(Duration::from_millis(1)),
        rate: options.rate,
    };
    let endpoint = Arc::new(connection::Endpoint::resolve(target, request).await?);
    if !options.json {
        eprintln!("{}", report::announce(&load, target));
    }
    let outcome = drive::drive(endpoint, &load).await;
    if options.json {
        print_line(&format!("{:#}", report::as_json(&load, &outcome)))?;
    } else {
        print_line(&report::as_text(&load, &outcome))?;
    }
    Ok(if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
