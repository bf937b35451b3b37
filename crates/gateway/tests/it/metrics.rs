//! `/metrics`, as a scraper reads it.

use crate::replica::{Act, Replica};
use crate::support::{INFER, get, iris, post, quick, start};

#[tokio::test]
async fn requests_latency_and_failures_are_exposed() {
    let replica =
        Replica::start(|number, _| Act::Answer(if number < 3 { 200 } else { 400 }, "x".to_owned()))
            .await;
    let running = start(quick(), &iris(&[replica.address])).await;
    for _ in 0..4 {
        post(running.address, INFER, "", "x").await;
    }
    post(running.address, "/v2/models/half/infer", "", "x").await;
    running.gateway.update(&iris(&[replica.address]));
    let answer = get(running.address, "/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text();
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    let labels = r#"service="iris",revision="r1",protocol="http",code="200""#;
    has(&format!("trainyard_gateway_requests_total{{{labels}}} 3"));
    let labels = labels.replace("200", "400");
    has(&format!("trainyard_gateway_requests_total{{{labels}}} 1"));
    has(r#"trainyard_gateway_requests_total{service="",revision="",protocol="http",code="404"} 1"#);
    has(r#"trainyard_gateway_latency_seconds_count{service="iris",revision="r1"} 4"#);
    has(r#"trainyard_gateway_latency_seconds_bucket{le="+Inf",service="iris",revision="r1"} 4"#);
    has(r#"trainyard_gateway_in_flight{service="iris",revision="r1"} 0"#);
    has(r#"trainyard_gateway_held{service="iris"} 0"#);
    has(r#"trainyard_gateway_retries_total{service="iris"} 0"#);
    assert!(text.ends_with("# EOF\n"));
}
