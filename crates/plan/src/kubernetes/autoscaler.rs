//! The HorizontalPodAutoscaler.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use trainyard_api::scalar::Percent;

use super::settings::Track;
use super::{Context, Object};

/// Demand must stay low for so long before a replica goes: a model that has to be loaded again costs
/// more than the minutes that it idles. A GPU's model loads longer.
const SCALE_DOWN_WINDOW: i32 = 300;
const SCALE_DOWN_WINDOW_GPU: i32 = 600;
/// What the API server takes at most.
const LONGEST_WINDOW: i32 = 3600;

/// Whether an autoscaler of Kubernetes decides on the count. Where it does, nobody else writes it.
pub(super) fn is_autoscaled(ctx: &Context<'_>) -> bool {
    let scaling = &ctx.plan.scaling;
    let has_metric = scaling.cpu.is_some() || scaling.memory.is_some();
    // Of the plan alone, so that it does not come and go with the floor and forget what it saw.
    matches!(ctx.track, Track::Stable { .. }) && has_metric && scaling.max > scaling.min.max(1)
}

/// The operator's own metrics (requests in flight, per second) raise the floor, so that of all
/// metrics the one that needs most replicas decides.
fn least(ctx: &Context<'_>) -> u32 {
    ctx.replicas().max(ctx.plan.scaling.min).clamp(1, ctx.plan.scaling.max.max(1))
}

pub(super) fn autoscaler(ctx: &Context<'_>) -> Option<Object> {
    if !is_autoscaled(ctx) {
        return None;
    }
    let scaling = &ctx.plan.scaling;
    let metrics = [("cpu", scaling.cpu), ("memory", scaling.memory)]
        .into_iter()
        .filter_map(|(name, target)| Some(metric(name, target?)))
        .collect();
    Some(Object::new(&HorizontalPodAutoscaler {
        metadata: ctx.metadata(ctx.name(), ctx.labels()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: ctx.name(),
            },
            min_replicas: Some(count(least(ctx))),
            max_replicas: count(scaling.max),
            metrics: Some(metrics),
            behavior: Some(behavior(scale_down_window(ctx))),
        }),
        status: None,
    }))
}

fn metric(name: &str, target: Percent) -> MetricSpec {
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: name.to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(count(target.whole_percent())),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

fn scale_down_window(ctx: &Context<'_>) -> i32 {
    match ctx.settings.scale_down_after {
        Some(window) => {
            i32::try_from(window.as_secs()).unwrap_or(LONGEST_WINDOW).min(LONGEST_WINDOW)
        }
        None if ctx.plan.workload.resources.gpu.is_some() => SCALE_DOWN_WINDOW_GPU,
        None => SCALE_DOWN_WINDOW,
    }
}

/// Up at once, at most doubling each half minute, since a new replica helps only once it has loaded;
/// down late and slowly.
fn behavior(scale_down_window: i32) -> HorizontalPodAutoscalerBehavior {
    let policy = |type_: &str, value, period_seconds| HPAScalingPolicy {
        type_: type_.to_owned(),
        value,
        period_seconds,
    };
    HorizontalPodAutoscalerBehavior {
        scale_up: Some(HPAScalingRules {
            stabilization_window_seconds: Some(0),
            select_policy: Some("Max".to_owned()),
            policies: Some(vec![policy("Pods", 2, 30), policy("Percent", 100, 30)]),
            ..HPAScalingRules::default()
        }),
        scale_down: Some(HPAScalingRules {
            stabilization_window_seconds: Some(scale_down_window),
            select_policy: Some("Max".to_owned()),
            policies: Some(vec![policy("Pods", 1, 60), policy("Percent", 20, 60)]),
            ..HPAScalingRules::default()
        }),
    }
}

/// A count as Kubernetes has it.
pub(super) fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
