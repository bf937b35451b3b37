use crate::context::Context;
use crate::model::{FrameworkKind, Manager, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};

rule! {
    /// Model server whose metrics nobody reads
    ///
    /// ## What it does
    /// Looks at model servers that publish metrics (vLLM, SGLang, TGI, TEI, Triton, TorchServe and
    /// others) for what has them read: a PodMonitor or ServiceMonitor that selects them, the
    /// annotation `prometheus.io/scrape`, a port named `metrics`, a collector beside the server, a
    /// label by which a platform reads them itself (AIBrix).
    ///
    /// Silent for pods that an operator completes, and for batch jobs.
    ///
    /// ## Why it matters
    /// Queue length, cache use and time to first token are what shows that a server is too slow or
    /// too small. Without them an autoscaler has nothing to go by, and an outage no history.
    ///
    /// ## How to fix it
    /// Add a PodMonitor for the server's port with path `/metrics`.
    OBS01, Warning,
    evidence: "docs.vllm.ai, production metrics; prometheus-operator/prometheus-operator, PodMonitor",
    check: Check::Pod(check),
    examples: [
        Example::bad("nothing reads the metrics", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: llm}}
  template:
    metadata: {labels: {app: llm}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
", &[10]),
        Example::good("a PodMonitor", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: llm}}
  template:
    metadata: {labels: {app: llm}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: a}
spec:
  selector: {matchLabels: {app: llm}}
  podMetricsEndpoints: [{port: http}]
"),
        Example::good("an annotation", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: llm}}
  template:
    metadata:
      labels: {app: llm}
      annotations: {prometheus.io/scrape: 'true'}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
"),
        Example::good("a client that waits for somebody", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: perf}}
  template:
    metadata: {labels: {app: perf}}
    spec:
      containers:
        - name: main
          image: nvcr.io/nvidia/tritonserver:24.06-py3-sdk
          command: [/bin/bash, -c, --]
          args: [while true; do sleep 30; done;]
"),
        Example::good("a platform reads them", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {model.aibrix.ai/name: llm}}
  template:
    metadata: {labels: {model.aibrix.ai/name: llm}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.9.0
"),
    ],
}

/// Servers that publish metrics for Prometheus.
const PUBLISHERS: [FrameworkKind; 10] = [
    FrameworkKind::Vllm,
    FrameworkKind::Sglang,
    FrameworkKind::Tgi,
    FrameworkKind::Tei,
    FrameworkKind::Triton,
    FrameworkKind::TensorrtLlm,
    FrameworkKind::Torchserve,
    FrameworkKind::LlamaCpp,
    FrameworkKind::Nim,
    FrameworkKind::Mlserver,
];

/// Labels of pods whose metrics a platform reads to route and scale by.
const PLATFORMS: [&str; 2] = ["model.aibrix.ai/name", "model.aibrix.ai/metric-port"];

fn check(context: &Context<'_>, pod: &Pod<'_>, report: &mut Report) {
    let lasting = matches!(
        pod.manager,
        Manager::Deployment | Manager::StatefulSet | Manager::ReplicaSet | Manager::LeaderWorkerSet
    );
    if !pod.serves() || !pod.complete || !lasting {
        return;
    }
    let Some(server) = pod.server() else { return };
    if !PUBLISHERS.iter().any(|kind| server.is(*kind)) || pod.role == "worker" {
        return;
    }
    let annotated = |annotations: crate::yaml::Node<'_>| {
        annotations.entries().any(|entry| {
            (entry.key.ends_with("/scrape") || entry.key.ends_with("/should_be_scraped"))
                && entry.value.is("true")
                || entry.key.starts_with("ad.datadoghq.com/")
        })
    };
    let named = |name: &str| name.contains("metric") || name.contains("prom");
    let port =
        pod.main_containers().any(|container| container.ports().any(|port| named(port.name)));
    let collector = pod.main_containers().any(|container| {
        container.image.is_some_and(|image| {
            ["opentelemetry-collector", "otel", "prometheus", "fluent", "datadog", "alloy"]
                .iter()
                .any(|word| image.repository.contains(word))
        })
    });
    let services = || context.bundle.services_of(pod);
    if PLATFORMS.iter().any(|key| pod.label(key).is_set()) {
        return;
    }
    if annotated(pod.metadata.get("annotations"))
        || port
        || collector
        || services().any(|service| {
            annotated(service.metadata().get("annotations"))
                || service.spec().get("ports").items().any(|port| named(port.get("name").str()))
        })
        || !context.bundle.monitors_of(pod).is_empty()
    {
        return;
    }
    report
        .at(
            server.node.get("name"),
            "nobody sees when this server is overloaded: nothing here has its metrics read",
        )
        .fix("add a PodMonitor for its port with path `/metrics`");
}
