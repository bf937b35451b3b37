//! The Deployment of a track.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::autoscaler::{count, is_autoscaled};
use super::labels::{CONFIG_HASH, Texts, selector};
use super::{
    Context, Object, ObjectsError, claim, config, container, model, monitoring, placement,
};

/// Revisions that `kubectl rollout undo` can go back to.
const HISTORY: i32 = 5;
/// Between the end of a server's own grace and the node's patience with it.
const MARGIN: Duration = Duration::from_secs(5);

pub(super) fn deployment(ctx: &Context<'_>) -> Result<Object, ObjectsError> {
    let plan = ctx.plan;
    let progress = plan.rollout.progress_deadline.as_secs();
    Ok(Object::new(&Deployment {
        metadata: ctx.metadata(ctx.name(), ctx.track_labels()),
        spec: Some(DeploymentSpec {
            replicas: replicas(ctx),
            selector: selector(ctx.track_selector()),
            strategy: Some(strategy(ctx)),
            revision_history_limit: Some(HISTORY),
            progress_deadline_seconds: Some(i32::try_from(progress).unwrap_or(i32::MAX)),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(ctx.track_labels()),
                    annotations: Some(annotations(ctx)?).filter(|texts| !texts.is_empty()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(ctx)?),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }))
}

/// None where a HorizontalPodAutoscaler writes it, unless all are to stop: it leaves a Deployment
/// with none alone.
fn replicas(ctx: &Context<'_>) -> Option<i32> {
    let replicas = ctx.replicas();
    (!is_autoscaled(ctx) || replicas == 0).then_some(count(replicas))
}

/// How pods change over to a new template.
///
/// Without a GPU, new pods come first: never fewer than there should be. With GPUs that may all be in
/// use, a pod that must come first would wait for ever, so an old one goes first. Who has a GPU to
/// spare, and a service that must not pause, takes the strategy `blueGreen` or `canary`.
fn strategy(ctx: &Context<'_>) -> DeploymentStrategy {
    let quarter = (ctx.replicas().max(ctx.plan.scaling.min) / 4).max(1);
    let (surge, unavailable) = match ctx.plan.workload.resources.gpu {
        None => (quarter, 0),
        Some(_) => (0, quarter),
    };
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(count(surge))),
            max_unavailable: Some(IntOrString::Int(count(unavailable))),
        }),
    }
}

fn annotations(ctx: &Context<'_>) -> Result<Texts, ObjectsError> {
    let mut annotations = Texts::new();
    if let Some(hash) = config::hash(ctx) {
        annotations.insert(CONFIG_HASH.to_owned(), hash);
    }
    // For a Prometheus that looks at pods itself; two ways to one pod would count it twice.
    if let (Some(metrics), false) = (&ctx.plan.workload.metrics, monitoring::is_installed(ctx)) {
        let port = ctx.port("`metrics`", &metrics.port)?;
        annotations.insert("prometheus.io/scrape".to_owned(), "true".to_owned());
        annotations.insert("prometheus.io/port".to_owned(), port.to_string());
        annotations.insert("prometheus.io/path".to_owned(), metrics.path.clone());
    }
    Ok(annotations)
}

fn pod(ctx: &Context<'_>) -> Result<PodSpec, ObjectsError> {
    let workload = &ctx.plan.workload;
    let grace = workload.drain.length() + workload.grace + MARGIN;
    let mut pod = PodSpec {
        service_account_name: Some(ctx.plan.name.clone()),
        automount_service_account_token: Some(false),
        // Variables such as VLLM_PORT, which Kubernetes makes of a Service `vllm`, are taken for
        // settings by servers of that name.
        enable_service_links: Some(false),
        init_containers: model::fetch(ctx).map(|container| vec![container]),
        containers: vec![container::server(ctx)?],
        volumes: Some(model::volumes(ctx)?),
        resource_claims: claim::of_pod(&ctx.plan.name, workload.resources.gpu.as_ref()),
        security_context: Some(container::pod_security_context()),
        termination_grace_period_seconds: Some(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)),
        ..PodSpec::default()
    };
    let placing = placement::Placing {
        placement: &ctx.plan.placement,
        gpu: workload.resources.gpu.as_ref(),
        profile: ctx.settings.profile,
        pods: ctx.track_selector(),
        template_label: Some("pod-template-hash"),
    };
    placement::place(&placing, &mut pod);
    Ok(pod)
}
