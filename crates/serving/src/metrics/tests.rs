//! What `/metrics` shows.

use std::time::Duration;

use super::*;
use crate::request::BatchClose;

fn serve(shown: &Shown, times: u32) {
    let ms = Duration::from_millis(1);
    for _ in 0..times {
        shown.counters.served(&Served {
            queue: ms,
            infer: ms * 2,
            total: ms * 3,
            ..Served::default()
        });
        shown.counters.executed(&Executed {
            rows: 4,
            close: BatchClose::Full,
            input: Duration::ZERO,
            infer: ms * 2,
            output: Duration::ZERO,
        });
    }
}

fn show(metrics: &Metrics, model: &str) -> Shown {
    metrics.show(Arc::from(model), 3)
}

#[track_caller]
fn shows(metrics: &Metrics, line: &str) {
    let text = metrics.encode();
    assert!(text.lines().any(|one| one == line), "no line {line:?} in\n{text}");
}

#[test]
fn names_are_triton_s_and_ours() {
    let metrics = Metrics::new();
    let shown = show(&metrics, "a\"b");
    serve(&shown, 2);
    shown.counters.failed(Failure::QueueFull, Duration::ZERO);
    shown.counters.failed(Failure::QueueTimeout, Duration::ZERO);
    shown.counters.pending.store(5, std::sync::atomic::Ordering::Relaxed);
    for line in [
        "# TYPE nv_inference_request_success unknown",
        r#"nv_inference_request_success{model="a\"b",version="3"} 2"#,
        r#"nv_inference_count{model="a\"b",version="3"} 8"#,
        r#"nv_inference_exec_count{model="a\"b",version="3"} 2"#,
        r#"nv_inference_request_duration_us{model="a\"b",version="3"} 6000"#,
        r#"nv_inference_queue_duration_us{model="a\"b",version="3"} 2000"#,
        r#"nv_inference_compute_infer_duration_us{model="a\"b",version="3"} 4000"#,
        r#"nv_inference_request_failure{model="a\"b",version="3",reason="REJECTED"} 2"#,
        r#"nv_inference_request_failure{model="a\"b",version="3",reason="CANCELED"} 0"#,
        r#"nv_inference_pending_request_count{model="a\"b",version="3"} 5"#,
        r#"trainyard_request_failure_total{model="a\"b",version="3",reason="queue_full"} 1"#,
        r#"trainyard_batch_close_total{model="a\"b",version="3",reason="full"} 2"#,
        r#"trainyard_batch_size_bucket{le="2.0",model="a\"b",version="3"} 0"#,
        r#"trainyard_batch_size_bucket{le="4.0",model="a\"b",version="3"} 2"#,
        r#"trainyard_inference_seconds_bucket{le="0.002",model="a\"b",version="3"} 0"#,
        r#"trainyard_inference_seconds_bucket{le="0.003",model="a\"b",version="3"} 2"#,
        r#"trainyard_inference_seconds_count{model="a\"b",version="3"} 2"#,
        "# UNIT trainyard_queue_seconds seconds",
    ] {
        shows(&metrics, line);
    }
    assert!(metrics.encode().ends_with("# EOF\n"));
}

#[test]
fn nothing_is_left_of_a_version_that_was_dropped() {
    let metrics = Metrics::new();
    let empty = metrics.encode();
    let shown = show(&metrics, "a");
    serve(&shown, 1);
    drop(shown);
    assert_eq!(metrics.encode(), empty);
}

#[test]
fn counters_do_not_fall_while_a_version_is_reloaded() {
    let metrics = Metrics::new();
    let older = show(&metrics, "a");
    serve(&older, 3);
    let newer = show(&metrics, "a");
    serve(&newer, 1);
    let line = r#"nv_inference_request_success{model="a",version="3"} 4"#;
    shows(&metrics, line);
    drop(older);
    shows(&metrics, line);
    assert_eq!(newer.counters.statistics("a", 3).success.count, 1);
    drop(newer);
    assert!(!metrics.encode().contains("nv_inference"));
}

#[test]
fn others_may_register_theirs() {
    let metrics = Metrics::new();
    let gauge = prometheus_client::metrics::gauge::Gauge::<i64>::default();
    gauge.set(7);
    metrics.with_registry(|registry| registry.register("other", "Of others", gauge.clone()));
    shows(&metrics, "other 7");
}
