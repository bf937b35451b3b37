//! The deadline that a REST client or a proxy sends along.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

use crate::protocol::grpc::deadline::parse;

/// gRPC's header, which is as good for REST: at most eight digits and a unit, such as `250m`.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What Envoy and the meshes built on it add: how long the proxy will wait, in milliseconds.
const ENVOY: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// When the client stops waiting, counted from `now`: the earlier one if both headers are there. A
/// value that does not follow the rules is ignored, since the client still enforces its own.
pub(super) fn deadline(headers: &HeaderMap, now: Instant) -> Option<Instant> {
    let text = |name| headers.get(name)?.to_str().ok();
    let own = text(TIMEOUT).and_then(parse);
    let proxy = text(ENVOY).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let timeout = own.into_iter().chain(proxy).min()?;
    now.checked_add(timeout)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn table() {
        check(&[], None);
        check(&[("grpc-timeout", "250m")], Some(250));
        check(&[("x-envoy-expected-rq-timeout-ms", "1500")], Some(1_500));
        check(&[("grpc-timeout", "1S"), ("x-envoy-expected-rq-timeout-ms", "300")], Some(300));
        check(&[("grpc-timeout", "soon"), ("x-envoy-expected-rq-timeout-ms", "-1")], None);
    }

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], expected: Option<u64>) {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let now = Instant::now();
        let found = deadline(&headers.iter().map(header).collect(), now);
        assert_eq!(found, expected.map(|expected| now + Duration::from_millis(expected)));
    }
}
