//! Metrics of one worker, in the text format of Prometheus, and for the other workers how far it is.

use std::convert::Infallible;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::shell::Now;
use super::{Settings, gathering};

/// A client that connects and asks nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients at a time; Prometheus, a person or two, and the other workers, whose question is short.
const MOST_CLIENTS: usize = 16;

/// What every metric is labelled with.
#[derive(Clone)]
pub(super) struct Labels(Vec<(&'static str, String)>);

impl Labels {
    pub(super) fn of(settings: &Settings) -> Self {
        Self(vec![("job_name", settings.job.clone()), ("worker", settings.worker.to_string())])
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, labels: Labels, shown: watch::Receiver<Now>) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        if clients.len() >= MOST_CLIENTS {
            clients.join_next().await;
            continue;
        }
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: wait for some to be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (labels, shown) = (labels.clone(), shown.clone());
        clients.spawn(async move {
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let answer = answer(request.uri().path(), &labels, &shown.borrow());
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), answer);
            // A client that breaks off is none of our concern.
            let _ = served.await;
        });
    }
}

fn answer(path: &str, labels: &Labels, now: &Now) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        "/metrics" => (
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            text(labels, now),
        ),
        gathering::PATH => (StatusCode::OK, "text/plain", format!("{}\n", now.stage.as_str())),
        _ => (StatusCode::NOT_FOUND, "text/plain", "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

fn text(labels: &Labels, now: &Now) -> String {
    let labels = labels.0.iter().map(|(name, value)| ((*name).into(), value.clone().into()));
    let mut registry = Registry::with_prefix_and_labels("trainyard_training", labels);
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    };
    let report = &now.report;
    let seen = report.seen.as_ref();
    gauge("attempt", "Times that the workers were started", Some(report.attempt.into()));
    let step = seen.and_then(|seen| seen.step).map(|step| step as f64);
    gauge("step", "The step that the program reported last", step);
    gauge("loss", "The loss that the program reported last", seen.and_then(|seen| seen.loss));
    let speed = seen.and_then(|seen| seen.steps_per_second);
    gauge("steps_per_second", "Steps per second over the last minute", speed);
    gauge(
        "goodput_ratio",
        "The share of the time since the first start in which steps were done that are not done again",
        seen.and_then(|seen| seen.goodput),
    );
    gauge(
        "seconds_since_progress",
        "Seconds since progress was seen, or since the start",
        Some(now.silent_for.as_secs_f64()),
    );
    let noticed = if report.notice.is_some() { 1.0 } else { 0.0 };
    gauge(
        "interruption_notice",
        "1 once the cloud has said that it takes the machine",
        Some(noticed),
    );
    gauge(
        "seconds_at_risk",
        "Seconds of the program's time that are in no durable checkpoint",
        now.at_risk.map(|time| time.as_secs_f64()),
    );
    if let Some(saved) = &report.saved {
        let step = saved.step.map(|step| step as f64);
        gauge("checkpoint_step", "The step of the newest checkpoint that is durable", step);
        let count = Some(saved.count as f64);
        gauge("checkpoints_saved", "Checkpoints that this worker has made durable", count);
        let uploaded = Some(saved.uploaded_bytes as f64);
        gauge("checkpoint_uploaded_bytes", "Bytes that this worker has uploaded", uploaded);
        let restored = [
            ("store", "Bytes that this worker has restored from the store", saved.from_store_bytes),
            ("peers", "Bytes that it has restored from other workers", saved.from_peers_bytes),
        ];
        for (source, help, bytes) in restored {
            let name = format!("checkpoint_restored_from_{source}_bytes");
            gauge(&name, help, Some(bytes as f64));
        }
        let failures = Some(saved.failures as f64);
        gauge("checkpoint_failures", "Uploads and looks at the store that failed", failures);
    }
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = encode(&mut text, &registry);
    text
}

#[test]
fn what_prometheus_reads() {
    use super::report::{Report, Seen};
    let labels = Labels(vec![("job_name", "digits".to_owned()), ("worker", "1".to_owned())]);
    let seen = Seen {
        step: Some(7),
        loss: Some(0.5),
        steps_per_second: Some(2.5),
        goodput: Some(0.75),
        at_ms: 0,
    };
    let report = Report { attempt: 2, seen: Some(seen), ..Report::default() };
    let silent_for = Duration::from_millis(1500);
    let now = Now { report, silent_for, at_risk: Some(silent_for), ..Now::default() };
    insta::assert_snapshot!(text(&labels, &now));
    assert_eq!(answer("/", &labels, &Now::default()).status(), StatusCode::NOT_FOUND);
}
