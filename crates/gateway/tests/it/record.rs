//! What is told of each request: the access log, and spans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Span, Subscriber};
use trainyard_gateway::{Settings, Trace};

use crate::replica::{Replica, ok};
use crate::support::{INFER, eventually, get, iris, post, quick, start};

type Fields = BTreeMap<String, String>;

/// Collects events of the access log, and all that is said of spans.
#[derive(Clone, Default)]
struct Log {
    events: Arc<Mutex<Vec<Fields>>>,
    span: Arc<Mutex<Fields>>,
}

struct Texts<'a>(&'a mut Fields);

impl Visit for Texts<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}").trim_matches('"').to_owned();
        self.0.insert(field.name().to_owned(), text);
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Texts(&mut self.span.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Texts(&mut self.span.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == "access" {
            let mut fields = Fields::new();
            event.record(&mut Texts(&mut fields));
            self.events.lock().unwrap().push(fields);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Log {
    /// The log of this thread, on which a test and its gateway run.
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        (log.clone(), tracing::subscriber::set_default(log))
    }

    fn events(&self) -> Vec<Fields> {
        self.events.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn each_request_is_a_line_of_the_access_log() {
    let (log, _guard) = Log::start();
    let replica = Replica::always(ok("x")).await;
    let settings = Settings { access_log: true, ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let path = format!("{INFER}?key=secret");
    post(running.address, &path, "X-Request-Id: mine\r\n", "body").await;
    assert_eq!(get(running.address, "/v2/models/other").await.status, 404);
    eventually("logged", || log.events().len() == 2).await;
    let events = log.events();
    let replica = replica.address.to_string();
    for (field, expected) in [
        ("path", INFER),
        ("status", "200"),
        ("method", "POST"),
        ("service", "iris"),
        ("version", "HTTP/1.1"),
        ("peer", "127.0.0.1"),
        ("replica", &replica),
        ("request_id", "mine"),
    ] {
        assert_eq!(events[0][field], expected, "{field}");
    }
    assert!(events[0].contains_key("duration_us") && !events[0].contains_key("grpc_status"));
    assert_eq!(events[1]["status"], "404");
    assert_eq!(events[1]["request_id"].len(), 32, "a new one");
}

#[tokio::test]
async fn nothing_is_told_unasked() {
    let (log, _guard) = Log::start();
    let replica = Replica::always(ok("x")).await;
    let running = start(quick(), &iris(&[replica.address])).await;
    post(running.address, INFER, "", "body").await;
    assert!(log.events().is_empty() && log.span.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_span_stands_between_the_client_and_the_replica() {
    fn set_parent(_: &Span, headers: &HeaderMap) {
        assert_eq!(headers["traceparent"], "of-client");
    }
    fn inject(_: &Span, headers: &mut HeaderMap) {
        headers.insert("traceparent", HeaderValue::from_static("of-gateway"));
    }
    let (log, _guard) = Log::start();
    let replica = Replica::always(ok("x")).await;
    let settings = Settings { trace: Some(Trace { set_parent, inject }), ..quick() };
    let running = start(settings, &iris(&[replica.address])).await;
    let headers = "Traceparent: of-client\r\n";
    assert_eq!(post(running.address, INFER, headers, "body").await.status, 200);
    assert_eq!(replica.last().header("traceparent"), Some("of-gateway"));
    let of_span = |field: &str| log.span.lock().unwrap().get(field).cloned();
    eventually("closed", || of_span("http.response.status_code").is_some()).await;
    assert_eq!(of_span("url.path").as_deref(), Some(INFER));
    assert_eq!(of_span("service").as_deref(), Some("iris"));
    assert!(log.events().is_empty(), "the access log is another wish");
}
