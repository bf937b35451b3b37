//! W3C trace context in HTTP headers.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

static ENABLED: AtomicBool = AtomicBool::new(false);

pub(crate) fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Whether spans are exported. Where they are not, the functions below cost one load.
pub fn is_exporting() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Makes a new span a child of the caller's, if the headers (`traceparent`, `tracestate`) name one.
/// To be called before the span is entered for the first time.
pub fn set_parent(span: &Span, headers: &HeaderMap) {
    if !is_exporting() || !headers.contains_key("traceparent") {
        return;
    }
    let parent = TraceContextPropagator::new().extract(&Incoming(headers));
    if parent.span().span_context().is_valid() {
        // It fails where nobody listens to the span, which is as good.
        let _ = span.set_parent(parent);
    }
}

/// Puts the span's context into the headers of a request that is made within it, in place of what
/// they say.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    if is_exporting() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Outgoing(headers));
    }
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value))
        else {
            return;
        };
        self.0.insert(name, value);
    }
}
