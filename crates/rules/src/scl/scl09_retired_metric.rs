use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::subject;
use crate::context::Context;
use crate::facts;
use crate::model::{FrameworkKind, Object, Pod};
use crate::report::Report;
use crate::rule::{Check, Example, rule};
use crate::yaml::Node;

rule! {
    /// A metric under a name that is no longer used
    ///
    /// ## What it does
    /// Looks for names of metrics that model servers and exporters have given up, in autoscalers,
    /// ScaledObjects and PrometheusRules.
    ///
    /// Silent where the server in the manifests is pinned to a release that still has the name.
    ///
    /// ## Why it matters
    /// The query answers nothing. The autoscaler stands still, and the alert never fires; neither
    /// says that the name is wrong.
    ///
    /// ## How to fix it
    /// Use the new name.
    SCL09, Error,
    evidence: "docs.vllm.ai usage/metrics and deprecation policy; NVIDIA/dcgm-exporter etc/default-counters.csv",
    check: Check::Bundle(check),
    examples: [
        Example::bad("in a trigger", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  minReplicaCount: 1
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prometheus
        query: avg(vllm:gpu_cache_usage_perc{app=\"a\"})
        threshold: '0.8'
", &[11]),
        Example::bad("in an alert", "\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: alerts}
spec:
  groups:
    - name: vllm
      rules:
        - alert: Slow
          expr: |
            histogram_quantile(0.9, rate(vllm:time_per_output_token_seconds_bucket[5m])) > 1
", &[10]),
        Example::good("the new name", "\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: server}
spec:
  scaleTargetRef: {name: server}
  minReplicaCount: 1
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prometheus
        query: avg(vllm:kv_cache_usage_perc)
        threshold: '0.8'
"),
        Example::good("a server that still has it", "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: main
          image: vllm/vllm-openai:v0.8.5
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: server}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: server}
  maxReplicas: 4
  metrics:
    - type: Pods
      pods:
        metric: {name: 'vllm:gpu_cache_usage_perc'}
        target: {type: AverageValue, averageValue: 800m}
"),
    ],
}

#[derive(Deserialize)]
struct Table {
    metrics: Vec<Retired>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retired {
    name: String,
    /// The software whose image tells which names it has.
    server: Option<FrameworkKind>,
    /// Its first release without the name.
    gone_in: Option<Vec<u32>>,
    instead: String,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/retired-metrics.json")));

/// The oldest releases of servers that pods in a folder run.
type Oldest = HashMap<(Option<usize>, FrameworkKind), Vec<u32>>;

fn check(context: &Context<'_>, report: &mut Report) {
    let bundle = context.bundle;
    let mut oldest = Oldest::new();
    for pod in &bundle.pods {
        for (server, version) in versions(pod) {
            let entry = oldest.entry((bundle.folder(pod.spec), server));
            let found = entry.or_insert_with(|| version.clone());
            if version < *found {
                *found = version;
            }
        }
    }
    for kind in ["HorizontalPodAutoscaler", "ScaledObject", "PrometheusRule"] {
        for object in bundle.of_kind(kind) {
            check_object(context, object, &oldest, report);
        }
    }
}

fn versions(pod: &Pod<'_>) -> impl Iterator<Item = (FrameworkKind, Vec<u32>)> {
    pod.main_containers().filter_map(|container| {
        let server = container.framework.as_ref()?.kind;
        Some((server, container.image.and_then(|image| image.version())?))
    })
}

fn check_object(context: &Context<'_>, object: &Object<'_>, oldest: &Oldest, report: &mut Report) {
    let spec = object.spec();
    let mut texts: Vec<Node<'_>> = Vec::new();
    if object.kind == "PrometheusRule" {
        let rules = spec.get("groups").items().flat_map(|group| group.get("rules").items());
        texts.extend(rules.map(|rule| rule.get("expr")));
    } else {
        texts.extend(subject::metric_nodes(object));
    }
    for node in texts {
        let Some(text) = node.text() else { continue };
        let retired =
            TABLE.metrics.iter().find_map(|known| Some((known, find(text, &known.name)?)));
        let Some((known, written)) = retired else { continue };
        if still_has(context, object, known, oldest) {
            continue;
        }
        let instead = if written.contains(':') {
            known.instead.clone()
        } else {
            known.instead.replace(':', "_")
        };
        report
            .at_span(
                node,
                node.find(written),
                format!("nothing has the name `{written}` any more, so this never has a value"),
            )
            .fix(format!("use `{instead}`"));
    }
}

/// A metric's name in a query, as a word of its own; with `_` for `:`, as adapters write it. Names
/// of a histogram's parts count.
fn find<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let plain = name.replace(':', "_");
    [name, plain.as_str()].into_iter().find_map(|name| {
        text.match_indices(name).find_map(|(at, _)| {
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let before = text.get(..at)?.chars().next_back();
            let tail = text.get(at + name.len()..)?;
            let rest = ["_bucket", "_sum", "_count", "_total"]
                .iter()
                .find_map(|suffix| tail.strip_prefix(suffix))
                .unwrap_or(tail);
            let alone = !before.is_some_and(part) && !rest.starts_with(part);
            if alone { text.get(at..at + name.len()) } else { None }
        })
    })
}

/// Whether the server here is of a release that has the name.
fn still_has(context: &Context<'_>, object: &Object<'_>, known: &Retired, oldest: &Oldest) -> bool {
    let (Some(server), Some(gone_in)) = (known.server, &known.gone_in) else { return false };
    let autoscaler = context.bundle.autoscaler(object);
    let target = autoscaler.as_ref().and_then(|scaler| context.bundle.target_of(scaler));
    match target {
        Some(target) => context
            .bundle
            .pods_of(target)
            .flat_map(versions)
            .any(|(kind, version)| kind == server && version < *gone_in),
        // Of a rule, any server in the same folder.
        None => oldest
            .get(&(context.bundle.folder(object.root), server))
            .is_some_and(|version| version < gone_in),
    }
}
