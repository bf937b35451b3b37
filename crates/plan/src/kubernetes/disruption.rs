//! The PodDisruptionBudget.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::selector;
use super::{Context, Object};

/// Keeps a drain from taking all pods at once, and never from going on: one pod (a quarter of many)
/// may always go, and one that is not ready may go whatever the budget says.
///
/// None for a single replica: a budget would either block every drain or promise nothing.
pub(super) fn disruption_budget(ctx: &Context<'_>) -> Option<Object> {
    if ctx.plan.scaling.max.max(ctx.replicas()) < 2 {
        return None;
    }
    // Of 8 and more, a quarter is at least two. Percentages are rounded up: never to none.
    let may_go = match ctx.plan.scaling.min {
        8.. => IntOrString::String("25%".to_owned()),
        _ => IntOrString::Int(1),
    };
    Some(Object::new(&PodDisruptionBudget {
        metadata: ctx.metadata(ctx.name(), ctx.labels()),
        spec: Some(PodDisruptionBudgetSpec {
            selector: Some(selector(ctx.track_selector())),
            max_unavailable: Some(may_go),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }))
}
