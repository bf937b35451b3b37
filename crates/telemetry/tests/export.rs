//! Spans reach a collector, with the parent that the request's headers named.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use trainyard_telemetry::{LogFormat, Settings, init, inject, set_parent};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// One test, because telemetry is set up once in a process.
#[test]
fn spans_reach_the_collector() {
    let (address, received) = collector();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=secret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
        ("RUST_LOG", "off"),
    ];
    for (name, value) in variables {
        // SAFETY: this is the program's only test, and no thread of ours runs yet.
        unsafe { std::env::set_var(name, value) };
    }
    let settings = Settings {
        service_name: "trainyard-test".to_owned(),
        service_version: "1.2.3".to_owned(),
        format: LogFormat::Json,
        default_filter: "info",
    };
    let guard = init(&settings).unwrap();

    let mut incoming = HeaderMap::new();
    incoming.insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    let request = tracing::info_span!("request", model = "iris");
    set_parent(&request, &incoming);
    let mut outgoing = HeaderMap::new();
    request.in_scope(|| {
        let inner = tracing::info_span!("inference");
        inject(&inner, &mut outgoing);
        inner.in_scope(|| tracing::debug!("not exported, and no panic"));
    });
    drop(request);
    let alone = tracing::info_span!("alone");
    set_parent(&alone, &HeaderMap::new());
    drop(alone);
    drop(guard);

    let (head, body) = received.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    assert!(head.contains("x-api-key: secret"), "{head}");
    let export = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let of_resource = export.resource_spans.first().unwrap();
    let attributes = format!("{:?}", of_resource.resource.as_ref().unwrap().attributes);
    for part in ["trainyard-test", "1.2.3", "deployment.environment"] {
        assert!(attributes.contains(part), "{part} is not in {attributes}");
    }

    let spans: Vec<&Span> = of_resource.scope_spans.iter().flat_map(|it| &it.spans).collect();
    let named = |name| *spans.iter().find(|span| span.name == name).unwrap();
    let (request, inference, alone) = (named("request"), named("inference"), named("alone"));
    assert_eq!(
        (hex(&request.trace_id), hex(&request.parent_span_id)),
        (TRACE.into(), CALLER.into())
    );
    assert_eq!(hex(&inference.trace_id), TRACE);
    assert_eq!(inference.parent_span_id, request.span_id);
    assert!(alone.parent_span_id.is_empty() && hex(&alone.trace_id) != TRACE);
    let sent = outgoing.get("traceparent").unwrap().to_str().unwrap();
    assert_eq!(sent, format!("00-{TRACE}-{}-01", hex(&inference.span_id)));
}

/// Answers every request with an empty 200, and passes on its head and body.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let request = receive(stream.unwrap());
            if tx.send(request).is_err() {
                return;
            }
        }
    });
    (address, rx)
}

fn receive(mut stream: TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    (head, body)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
