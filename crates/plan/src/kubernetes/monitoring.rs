//! The PodMonitor of the Prometheus operator.

use serde_json::json;

use super::labels::{SERVICE, texts};
use super::{Context, Object};

pub(super) const API: &str = "monitoring.coreos.com/v1";

/// Tells the Prometheus operator what to read, where it is installed.
pub(super) fn pod_monitor(ctx: &Context<'_>) -> Option<Object> {
    let metrics = ctx.plan.workload.metrics.as_ref()?;
    if !is_installed(ctx) {
        return None;
    }
    let value = json!({
        "apiVersion": API,
        "kind": "PodMonitor",
        "metadata": ctx.metadata(ctx.plan.name.clone(), ctx.labels()),
        "spec": {
            "selector": { "matchLabels": texts([(SERVICE, &ctx.plan.name)]) },
            "podTargetLabels": [SERVICE, super::TRACK, super::REVISION],
            "podMetricsEndpoints": [{ "port": metrics.port, "path": metrics.path }],
        },
    });
    Some(Object::custom(value, "podmonitors"))
}

pub(super) fn is_installed(ctx: &Context<'_>) -> bool {
    ctx.settings.apis.contains(API)
}
