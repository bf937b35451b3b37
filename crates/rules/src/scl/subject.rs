//! What an autoscaler scales, and by what.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::context::Context;
use crate::facts;
use crate::model::{Autoscaler, Object, Pod};
use crate::trn::job::is_ml;
use crate::yaml::Node;

/// A value that an autoscaler watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric<'b> {
    /// Where its name or query is written.
    pub node: Node<'b>,
    /// `cpu`, `memory`, or the name or query of a metric.
    pub name: &'b str,
    pub kind: MetricKind<'b>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind<'b> {
    /// CPU or memory of the pods, or of one of their containers.
    Resource { is_share_of_request: bool, container: Option<&'b str> },
    /// Anything else.
    Custom,
}

impl Metric<'_> {
    pub(super) fn is_resource(&self) -> bool {
        matches!(self.kind, MetricKind::Resource { .. })
    }
}

/// An autoscaler with what it says and scales.
pub(super) struct Subject<'a, 'b> {
    pub autoscaler: Autoscaler<'b>,
    pub metrics: Vec<Metric<'b>>,
    pub target: Option<&'a Object<'b>>,
    /// Pod templates of the target; none if it is not in sight.
    pub pods: Vec<&'a Pod<'b>>,
}

/// Kinds that scale.
pub(super) const KINDS: [&str; 2] = ["HorizontalPodAutoscaler", "ScaledObject"];

/// An autoscaler that scales what has to do with machine learning: by its target, or by a metric of
/// a model server. `None` for others.
pub(super) fn read<'a, 'b>(
    context: &'a Context<'b>,
    object: &Object<'b>,
) -> Option<Subject<'a, 'b>> {
    let autoscaler = context.bundle.autoscaler(object)?;
    let target = context.bundle.target_of(&autoscaler);
    let pods: Vec<&Pod<'b>> =
        target.map_or_else(Vec::new, |target| context.bundle.pods_of(target).take(16).collect());
    let metrics = metrics(object);
    let is_known = pods.iter().any(|pod| is_ml(pod))
        || (target.is_none() && metrics.iter().any(|metric| is_of_model_server(metric.name)));
    is_known.then_some(Subject { autoscaler, metrics, target, pods })
}

impl<'a, 'b> Subject<'a, 'b> {
    /// The template that serves models, with accelerators if any has them.
    pub(super) fn server(&self) -> Option<&'a Pod<'b>> {
        let serving = || self.pods.iter().copied().filter(|pod| pod.serves());
        serving().find(|pod| pod.has_accelerator()).or_else(|| serving().next())
    }

    /// `scaleDown` of the behaviour, wherever the kind keeps it.
    pub(super) fn scale_down(&self) -> Node<'b> {
        self.behavior().get("scaleDown")
    }

    pub(super) fn behavior(&self) -> Node<'b> {
        let spec = self.autoscaler.object.spec();
        if self.is_keda() {
            spec.path("advanced.horizontalPodAutoscalerConfig.behavior")
        } else {
            spec.get("behavior")
        }
    }

    pub(super) fn is_keda(&self) -> bool {
        self.autoscaler.object.kind == "ScaledObject"
    }
}

/// Where names and queries of an autoscaler's metrics are written.
pub(super) fn metric_nodes<'b>(object: &Object<'b>) -> impl Iterator<Item = Node<'b>> {
    metrics(object).into_iter().map(|metric| metric.node)
}

fn metrics<'b>(object: &Object<'b>) -> Vec<Metric<'b>> {
    let spec = object.spec();
    if object.kind == "ScaledObject" {
        return spec.get("triggers").items().filter_map(trigger).collect();
    }
    let old = spec.get("targetCPUUtilizationPercentage");
    if old.is_set() {
        let kind = MetricKind::Resource { is_share_of_request: true, container: None };
        return vec![Metric { node: old, name: "cpu", kind }];
    }
    spec.get("metrics").items().filter_map(metric).collect()
}

fn metric(item: Node<'_>) -> Option<Metric<'_>> {
    let share = |source: Node<'_>| {
        source.get("target").get("type").is("Utilization")
            || source.get("targetAverageUtilization").is_set()
    };
    for (key, of_container) in [("resource", false), ("containerResource", true)] {
        let source = item.get(key);
        if source.is_map() {
            let node = source.get("name");
            let container = if of_container { source.get("container").text() } else { None };
            let kind = MetricKind::Resource { is_share_of_request: share(source), container };
            return Some(Metric { node, name: node.text()?, kind });
        }
    }
    ["pods", "object", "external"].iter().find_map(|key| {
        let source = item.get(key);
        let new = source.path("metric.name");
        let node = if new.is_set() { new } else { source.get("metricName") };
        Some(Metric { node, name: node.text()?, kind: MetricKind::Custom })
    })
}

fn trigger(item: Node<'_>) -> Option<Metric<'_>> {
    let node = item.get("type");
    let name = node.text()?;
    let metadata = item.get("metadata");
    if name == "cpu" || name == "memory" {
        let kind = if item.get("metricType").is_set() {
            item.get("metricType")
        } else {
            metadata.get("type")
        };
        let is_share_of_request = !kind.is("AverageValue");
        let container = metadata.get("containerName").text();
        let kind = MetricKind::Resource { is_share_of_request, container };
        return Some(Metric { node, name, kind });
    }
    let query = metadata.get("query");
    let node = [query, metadata.get("metricName"), node].into_iter().find(|node| node.is_set())?;
    Some(Metric { node, name: node.text()?, kind: MetricKind::Custom })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    /// How names of model servers' metrics start, and parts of those that exporters rename.
    servers: Vec<String>,
    /// Parts of names of metrics that say how busy a GPU is.
    busy: Vec<String>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| facts::parse(include_str!("../../../../data/lint/scaling-metrics.json")));

/// Whether a metric or query is of a model server or a GPU.
pub(super) fn is_of_model_server(text: &str) -> bool {
    TABLE.servers.iter().any(|part| text.contains(part.as_str())) || is_busy_gpu(text)
}

/// Whether a metric or query says how busy a GPU is.
pub(super) fn is_busy_gpu(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    TABLE.busy.iter().any(|part| lower.contains(part.as_str()))
}

/// Seconds that a pod takes to load its model, where the model's size is known: read at 500 MB/s,
/// and half a minute for the rest. A guess on the quick side, so that a rule that calls a time too
/// short is right.
pub(super) fn load_seconds(pod: &Pod<'_>) -> Option<i64> {
    let bytes = pod
        .main_containers()
        .filter_map(|container| container.weights()?.bytes())
        .map(|bytes| bytes.units())
        .max()?;
    Some(30 + bytes / 500_000_000)
}
