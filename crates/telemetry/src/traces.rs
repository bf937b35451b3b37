//! Spans to an OTLP collector, over HTTP with protocol buffers.

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::init::{Settings, TelemetryError};

/// What the environment wants.
pub(crate) enum Export {
    Off,
    /// It wants what we cannot do; the text says what to do instead.
    Unsupported(String),
    To(SdkTracerProvider),
}

/// Makes the exporter. The SDK reads the rest of the variables itself: endpoint, headers, timeout,
/// sampler, resource attributes, limits and the batch's size and pace.
pub(crate) fn export(settings: &Settings) -> Result<Export, TelemetryError> {
    match wanted(&|name| std::env::var(name).ok()) {
        Wanted::Nothing => return Ok(Export::Off),
        Wanted::Protocol(protocol) => {
            return Ok(Export::Unsupported(format!(
                "spans are not exported: the protocol {protocol} was asked for; set \
                 OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf (port 4318 of most collectors)"
            )));
        }
        Wanted::Spans => {}
    }
    // The exporter's client may be built before anything else that needs TLS; the first one wins.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder()
        .with_http()
        .build()
        .map_err(|error| TelemetryError::Export { reason: error.to_string() })?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource(settings))
        .build();
    Ok(Export::To(provider))
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Protocol(String),
    Spans,
}

fn wanted(variable: &dyn Fn(&str) -> Option<String>) -> Wanted {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let traces_or_all = |traces, all| set(traces).or_else(|| set(all));
    let endpoint =
        traces_or_all("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
    let is_off = set("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none");
    if endpoint.is_none() || is_off {
        return Wanted::Nothing;
    }
    match traces_or_all("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") {
        Some(protocol) if protocol != "http/protobuf" => Wanted::Protocol(protocol),
        _ => Wanted::Spans,
    }
}

fn resource(settings: &Settings) -> Resource {
    let name = Key::from_static_str("service.name");
    let version = KeyValue::new("service.version", settings.service_version.clone());
    let detected = Resource::builder().build();
    let is_named =
        detected.get(&name).is_some_and(|it| !it.as_str().starts_with("unknown_service"));
    let ours = if is_named {
        Resource::builder_empty()
    } else {
        Resource::builder_empty().with_service_name(settings.service_name.clone())
    };
    let mut builder = ours.with_attribute(version);
    for (key, value) in detected.iter() {
        if is_named || *key != name {
            builder = builder.with_attribute(KeyValue::new(key.clone(), value.clone()));
        }
    }
    builder.build()
}

/// Turns spans into exported ones. Its filter is not the log's: a quiet log still has traces.
/// Spans of the libraries that carry the export are left out, or each export would make more.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("hyper", LevelFilter::OFF)
        .with_target("hyper_util", LevelFilter::OFF)
        .with_target("h2", LevelFilter::OFF)
        .with_target("reqwest", LevelFilter::OFF)
        .with_target("rustls", LevelFilter::OFF)
        .with_target("opentelemetry", LevelFilter::OFF)
        .with_target("opentelemetry_sdk", LevelFilter::OFF)
        .with_target("opentelemetry-otlp", LevelFilter::OFF);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("trainyard"))
        // A file and a line for each span cost more than they tell.
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(ours)
}

#[test]
fn the_variables_decide() {
    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: Wanted) {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(wanted(&variable), expected, "{variables:?}");
    }
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    check(&[], Wanted::Nothing);
    check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], Wanted::Nothing);
    check(&[endpoint], Wanted::Spans);
    check(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h/v1/traces")], Wanted::Spans);
    check(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")], Wanted::Nothing);
    check(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], Wanted::Nothing);
    check(&[endpoint, ("OTEL_TRACES_EXPORTER", "otlp")], Wanted::Spans);
    check(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], Wanted::Spans);
    check(
        &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        Wanted::Protocol("grpc".to_owned()),
    );
}
