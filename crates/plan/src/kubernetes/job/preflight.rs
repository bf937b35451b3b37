//! The Job whose one pod looks, before workers are made and hold what others could use, whether what
//! they need is there: data, the store of checkpoints, claims, Secrets and the image.
//!
//! The pod is as a worker's in all that decides about it: account, credentials, network and nodes; its
//! last container is as the worker itself, of the same image with the same agent, variables, user and
//! mounts, since what a store is reached by is there: certificates, proxies, names. It asks for no
//! device, and fetches nothing.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, PodSpec, PodTemplateSpec, ResourceRequirements, Volume as PodVolume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use trainyard_api::model_service::Spread;

use super::workers;
use super::{Context, JobRun, account, data, network};
use crate::job::JobPlan;
use crate::kubernetes::container::{pod_security_context, security_context};
use crate::kubernetes::labels::{PREFLIGHT, Texts};
use crate::kubernetes::model::TERMINATION_LOG;
use crate::kubernetes::placement::{Placing, place};
use crate::kubernetes::{Object, ObjectsError, Settings};
use crate::policy::Placement;
use crate::workload::Value;

/// The container of the program's image, which asks the store of checkpoints.
pub const IMAGE_CONTAINER: &str = "image";

/// Enough for the longest list of objects that is taken (100 000); next to nothing is used otherwise.
const CPU: (&str, &str) = ("100m", "1");
const MEMORY: (&str, &str) = ("128Mi", "512Mi");
/// The agent is copied to the pod's disk.
const DISK: (&str, &str) = ("1Gi", "2Gi");
/// Nothing in it needs time to end.
const GRACE_SECONDS: i64 = 5;
/// It goes by itself if nobody is there to take it away.
const TTL_SECONDS: i32 = 3600;

/// The name of the Job, of which a job has one at a time. No start of another job is called so: those
/// names end in a number. At most 62 characters: a job's own name has at most 52.
pub fn preflight_name(job: &str) -> String {
    format!("{job}-preflight")
}

/// Writes the Job, and what its pod runs as and may reach, which the workers have too.
pub fn preflight_objects(plan: &JobPlan, settings: &Settings) -> Result<Vec<Object>, ObjectsError> {
    // Nothing in it depends on the start, and it is handed to nobody: what a gang waits for that learns
    // its size later is not made yet.
    let plan = JobPlan { handover: None, ..plan.clone() };
    let ctx = Context { plan: &plan, run: JobRun::Attempt(1), settings };
    Ok(vec![account(&ctx), network::policy(&ctx), job(&ctx)?])
}

fn job(ctx: &Context<'_>) -> Result<Object, ObjectsError> {
    let labels = labels(ctx);
    Ok(Object::new(&Job {
        metadata: ctx.metadata(preflight_name(&ctx.plan.name), labels.clone()),
        spec: Some(JobSpec {
            // Whoever made it decides whether it is made again.
            backoff_limit: Some(0),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(ctx)?),
            },
            ..JobSpec::default()
        }),
        status: None,
    }))
}

/// Those by which the workers' policy holds for it too; none by which it would be taken for one of
/// them, or for something to queue.
fn labels(ctx: &Context<'_>) -> Texts {
    let mut labels = ctx.labels();
    labels.insert("app.kubernetes.io/component".to_owned(), "preflight".to_owned());
    labels.insert(PREFLIGHT.to_owned(), "true".to_owned());
    labels
}

fn pod(ctx: &Context<'_>) -> Result<PodSpec, ObjectsError> {
    let plan = ctx.plan;
    let mut init = vec![workers::agent(ctx, resources())];
    init.extend(data::looks(ctx, &resources()));
    let mut pod = PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(ctx.shared_name()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        priority_class_name: plan.priority_class.clone(),
        init_containers: Some(init),
        containers: vec![image(ctx)?],
        volumes: Some(volumes(ctx)),
        security_context: Some(pod_security_context()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        ..PodSpec::default()
    };
    // On the workers' nodes: elsewhere images are of another architecture, and a claim that is bound
    // by its first pod would be bound where no worker can be.
    let placing = Placing {
        placement: &Placement { spread: Spread::None, ..plan.placement.clone() },
        gpu: plan.resources.gpu.as_ref(),
        profile: ctx.settings.profile,
        pods: Texts::new(),
        template_label: None,
    };
    place(&placing, &mut pod);
    Ok(pod)
}

fn resources() -> ResourceRequirements {
    let all = [("cpu", CPU), ("memory", MEMORY), ("ephemeral-storage", DISK)];
    let of = |which: fn((&str, &str)) -> String| {
        all.map(|(name, amounts)| (name.to_owned(), Quantity(which(amounts)))).into()
    };
    ResourceRequirements {
        requests: Some(of(|(request, _)| request.to_owned())),
        limits: Some(of(|(_, limit)| limit.to_owned())),
        claims: None,
    }
}

/// Asks the store as a worker's agent would, if there is one. Runs nothing of the image, but shows that
/// it can be pulled and run, that the program's Secrets are there, and that its claims can be mounted.
fn image(ctx: &Context<'_>) -> Result<Container, ObjectsError> {
    let plan = ctx.plan;
    let missing = || ObjectsError::LocalPlan { service: plan.name.clone(), what: "its program" };
    let store = plan.checkpoint.as_ref().and_then(|checkpoint| checkpoint.uri.as_deref());
    let args: Vec<Value> = match store {
        None => vec![Value::literal("--version")],
        Some(uri) => {
            ["fetch", "--check", "--may-be-empty", "--termination-log", TERMINATION_LOG, "--", uri]
                .map(Value::literal)
                .to_vec()
        }
    };
    Ok(Container {
        name: IMAGE_CONTAINER.to_owned(),
        image: Some(plan.image.clone().ok_or_else(missing)?),
        image_pull_policy: Some(ctx.settings.image_pull_policy.as_str().to_owned()),
        command: Some(workers::program()),
        args: Some(workers::arguments(ctx, &args)?),
        env: Some(workers::environment(ctx, &plan.agent_env(&ctx.gang()))?),
        env_from: workers::credentials(ctx),
        resources: Some(resources()),
        security_context: Some(security_context()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(
            workers::folders(ctx)
                .chain([workers::agent_mount()])
                .chain(data::mounts(ctx))
                .collect(),
        ),
        ..Container::default()
    })
}

/// Those of a worker, but for the Secret by which workers know each other: it is made with them.
fn volumes(ctx: &Context<'_>) -> Vec<PodVolume> {
    workers::volumes(ctx).into_iter().filter(|it| it.secret.is_none()).collect()
}
