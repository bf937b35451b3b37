//! The Job, and the pod of a worker.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar as PodEnvVar,
    EnvVarSource, HTTPGetAction, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SecretEnvSource, SecretVolumeSource,
    Volume as PodVolume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use trainyard_api::model_service::Spot;
use trainyard_api::scalar::Bytes;
use trainyard_api::training_job::Writers;

use super::{Context, JobRun, METRICS, METRICS_NAME, PEERS, data, handover, job_name};
use crate::kubernetes::autoscaler::count;
use crate::kubernetes::container::{
    pod_security_context, requirements, secret_source, security_context,
};
use crate::kubernetes::labels::{Texts, texts};
use crate::kubernetes::model::TERMINATION_LOG;
use crate::kubernetes::placement::{Placing, place};
use crate::kubernetes::{Object, ObjectsError, Profile, claim};
use crate::runtime::user;
use crate::workload::{EnvVar, Value, VolumeSource};

/// The container that runs the program, under the agent.
pub const WORKER_CONTAINER: &str = "worker";
/// The init container that brings the agent.
pub const AGENT_CONTAINER: &str = "agent";

/// Where the agent is in a worker's container, with the loader and the libraries that it was linked
/// with: it runs in every image, whatever C library that has, or none.
const AGENT: &str = "/opt/trainyard/bin";
/// Where a worker's container has what only the job's workers have.
const SECRET: &str = "/opt/trainyard/secret";
const SECRET_VOLUME: &str = "secret";
/// The key in the Secret of a job's workers, and its file.
pub const TOKEN: &str = "token";
/// Owner and group may read it: the user is of the group that volumes are given to.
const SECRET_MODE: i32 = 0o440;
/// The agent with its libraries; a development build is the larger one.
const AGENT_SIZE: Bytes = Bytes(1 << 30);
/// Holds the uid of the Job, which is the same for all workers of a start and never used again.
const START: &str = "TRAINYARD_START";
const START_LABEL: &str = "batch.kubernetes.io/controller-uid";
/// Workers wait so long for one of which nothing is seen. Nodes pull images of ten gigabytes.
const AWAIT_WORKERS: &str = "30m";

/// Codes of an agent whose program could not be started: a shell's for the same.
const NOT_STARTED: [i32; 2] = [126, 127];
/// Codes of `trainyard fetch` for what a person has to mend.
const NOT_FETCHED: [i32; 5] = [2, 3, 4, 5, 6];
/// The code of an agent that was told to end.
const INTERRUPTED: i32 = 143;
/// What a program is given that nobody asks for a checkpoint.
const GRACE: Duration = Duration::from_secs(10);
/// What an agent takes beyond its program's grace: it ends what that has left behind, and tries once
/// more to make a checkpoint durable.
const MARGIN: Duration = Duration::from_secs(30);

pub(super) fn job(ctx: &Context<'_>) -> Result<Object, ObjectsError> {
    let plan = ctx.plan;
    let is_alone = ctx.run == JobRun::Alone;
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let backs_off = is_alone && plan.workers == 1;
    let mut metadata = ctx.metadata(job_name(&plan.name, ctx.run), ctx.run_labels());
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(ctx.run_labels()),
            annotations: Some(annotations(ctx)),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(ctx)?),
    };
    let awaits_its_turn = handover::mark(ctx, &mut metadata, &mut template);
    let is_suspended = awaits_its_turn || is_alone && plan.is_suspended;
    Ok(Object::new(&Job {
        metadata,
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".to_owned()),
            completions: Some(count(plan.workers)),
            parallelism: Some(count(plan.workers)),
            // The first failure ends the gang: the others would wait for it for ever.
            backoff_limit: Some(if backs_off { count(plan.retries) } else { 0 }),
            pod_failure_policy: Some(failure_policy(ctx, backs_off)),
            active_deadline_seconds: plan
                .deadline
                .filter(|_| is_alone)
                .map(|time| seconds(time).max(1)),
            ttl_seconds_after_finished: plan
                .ttl_after_finished
                .filter(|_| is_alone)
                .map(|ttl| i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX)),
            suspend: is_suspended.then_some(true),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }))
}

/// Which ends of a pod count, for a Job that starts its one pod again; and which end it at once.
fn failure_policy(ctx: &Context<'_>, backs_off: bool) -> PodFailurePolicy {
    let on_codes_of = |container: &str, action: &str, codes: &[i32]| PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(container.to_owned()),
            operator: "In".to_owned(),
            values: codes.to_vec(),
        }),
        on_pod_conditions: None,
    };
    let on_codes = |action: &str, codes: &[i32]| on_codes_of(WORKER_CONTAINER, action, codes);
    let mut rules = vec![on_codes("FailJob", &NOT_STARTED)];
    // What is not there, or not allowed, will not be in a minute either.
    let fetches = data::containers(ctx);
    rules.extend(fetches.map(|it| on_codes_of(&it.name, "FailJob", &NOT_FETCHED)));
    if backs_off {
        // A drained node, a preemption, a spot machine that is taken: no fault of the program.
        rules.push(PodFailurePolicyRule {
            action: "Ignore".to_owned(),
            on_exit_codes: None,
            on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
            }]),
        });
        rules.push(on_codes("Ignore", &[INTERRUPTED]));
    }
    PodFailurePolicy { rules }
}

fn annotations(ctx: &Context<'_>) -> Texts {
    let mut annotations = texts([
        // A consolidation saves a node and costs what all workers did since the last checkpoint.
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ("karpenter.sh/do-not-disrupt", "true"),
    ]);
    if !ctx.has_pod_monitors() {
        annotations.extend(texts([
            ("prometheus.io/scrape", "true"),
            ("prometheus.io/port", &METRICS.to_string()),
            ("prometheus.io/path", "/metrics"),
        ]));
    }
    annotations
}

fn pod(ctx: &Context<'_>) -> Result<PodSpec, ObjectsError> {
    let plan = ctx.plan;
    let grace = plan.checkpoint.as_ref().map_or(GRACE, |checkpoint| checkpoint.grace) + MARGIN;
    let gpu = plan.resources.gpu.as_ref();
    // Copying takes next to nothing; a pod asks for the larger of the two, so it costs nothing.
    let agent = agent(ctx, requirements(&plan.resources, disk(ctx), false));
    let mut pod = PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(ctx.shared_name()),
        automount_service_account_token: Some(false),
        // Variables of Services that have nothing to do with the job.
        enable_service_links: Some(false),
        subdomain: Some(ctx.shared_name()),
        priority_class_name: plan.priority_class.clone(),
        init_containers: Some([agent].into_iter().chain(data::containers(ctx)).collect()),
        containers: vec![worker(ctx)?],
        volumes: Some(volumes(ctx)),
        resource_claims: claim::of_pod(&plan.name, gpu),
        security_context: Some(pod_security_context()),
        termination_grace_period_seconds: Some(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)),
        ..PodSpec::default()
    };
    let placing = Placing {
        placement: &plan.placement,
        gpu,
        profile: ctx.settings.profile,
        pods: ctx
            .run_labels()
            .into_iter()
            .filter(|(name, _)| name.starts_with("trainyard.dev/"))
            .collect(),
        template_label: None,
    };
    place(&placing, &mut pod);
    Ok(pod)
}

/// Brings the agent into the volume that the worker runs it from.
pub(super) fn agent(ctx: &Context<'_>, resources: ResourceRequirements) -> Container {
    Container {
        name: AGENT_CONTAINER.to_owned(),
        image: Some(ctx.settings.image.clone()),
        image_pull_policy: Some(ctx.settings.image_pull_policy.as_str().to_owned()),
        command: Some(vec!["trainyard".to_owned()]),
        args: Some(["agent", "install", "--to", AGENT].map(str::to_owned).to_vec()),
        resources: Some(resources),
        security_context: Some(security_context()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![VolumeMount {
            name: AGENT_CONTAINER.to_owned(),
            mount_path: AGENT.to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn worker(ctx: &Context<'_>) -> Result<Container, ObjectsError> {
    let plan = ctx.plan;
    let missing = || ObjectsError::LocalPlan { service: plan.name.clone(), what: "its program" };
    let image = plan.image.clone().ok_or_else(missing)?;
    let mut flags: Vec<Value> = ["--termination-log", TERMINATION_LOG].map(Value::literal).to_vec();
    if plan.workers > 1 {
        flags.extend(["--await-workers", AWAIT_WORKERS].map(Value::literal));
    }
    if ctx.secret().is_some() {
        flags.extend(["--token-file", &format!("{SECRET}/{TOKEN}")].map(Value::literal));
    }
    if let Some(checkpoint) = plan.checkpoint.as_ref().filter(|it| it.uri.is_some()) {
        if plan.workers > 1 && checkpoint.writers == Writers::First {
            flags.extend(["--checkpoint-writers", "first"].map(Value::literal));
        }
        flags.push(Value::literal("--checkpoint-start"));
        flags.push(Value::Text(format!("$({START})")));
        if ctx.restores_together() {
            flags.extend(["--checkpoint-peers", &PEERS.to_string()].map(Value::literal));
        }
    }
    for var in plan.env.iter().filter(|var| matches!(var.value, Value::Secret { .. })) {
        flags.extend(["--secret-variable", &var.name].map(Value::literal));
    }
    if let Some(cloud) = cloud(ctx) {
        flags.extend(["--cloud", cloud].map(Value::literal));
    }
    let (args, env) = plan.agent(&ctx.gang(), None, flags);
    let secret = ctx.secret().map(|_| VolumeMount {
        name: SECRET_VOLUME.to_owned(),
        mount_path: SECRET.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    Ok(Container {
        name: WORKER_CONTAINER.to_owned(),
        image: Some(image),
        image_pull_policy: Some(ctx.settings.image_pull_policy.as_str().to_owned()),
        command: Some(program()),
        args: Some(arguments(ctx, &args)?),
        env: Some(environment(ctx, &env)?),
        env_from: credentials(ctx),
        ports: Some(vec![ContainerPort {
            name: Some(METRICS_NAME.to_owned()),
            container_port: METRICS.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        // The agent is there; what its program does is in its metrics.
        readiness_probe: Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/metrics".to_owned()),
                port: IntOrString::String(METRICS_NAME.to_owned()),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            ..Probe::default()
        }),
        resources: Some(requirements(&plan.resources, disk(ctx), true)),
        security_context: Some(security_context()),
        termination_message_path: Some(TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(
            folders(ctx).chain([agent_mount()]).chain(secret).chain(data::mounts(ctx)).collect(),
        ),
        ..Container::default()
    })
}

/// The agent as a worker's container starts it, in any image.
pub(super) fn program() -> Vec<String> {
    let program =
        [&format!("{AGENT}/ld.so"), "--library-path", AGENT, &format!("{AGENT}/trainyard")];
    program.map(str::to_owned).to_vec()
}

pub(super) fn agent_mount() -> VolumeMount {
    VolumeMount {
        name: AGENT_CONTAINER.to_owned(),
        mount_path: AGENT.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// Where a worker's container has its own files.
pub(super) fn folders(ctx: &Context<'_>) -> impl Iterator<Item = VolumeMount> {
    ctx.plan.volumes.iter().map(|volume| VolumeMount {
        name: volume.name.clone(),
        mount_path: volume.mount.path.clone(),
        read_only: volume.mount.read_only.then_some(true),
        ..VolumeMount::default()
    })
}

/// Whose notices of interruption an agent looks for: only spot machines get any.
pub(super) fn cloud(ctx: &Context<'_>) -> Option<&'static str> {
    if ctx.plan.placement.spot == Spot::Never {
        return None;
    }
    match ctx.settings.profile {
        Profile::Generic => None,
        Profile::Eks => Some("aws"),
        Profile::Gke => Some("gcp"),
        Profile::Aks => Some("azure"),
    }
}

/// The agent's variables, and the program's, which come last and may use them.
pub(super) fn environment(
    ctx: &Context<'_>,
    env: &[EnvVar],
) -> Result<Vec<PodEnvVar>, ObjectsError> {
    let var = |name: &str, value: &str| PodEnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let mut all = vec![
        PodEnvVar {
            name: START.to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: Some("v1".to_owned()),
                    field_path: format!("metadata.labels['{START_LABEL}']"),
                }),
                ..EnvVarSource::default()
            }),
        },
        var("TRAINYARD_AGENT_METRICS", &format!("[::]:{METRICS}")),
    ];
    // What programs ask for who look for their user. An entry of the manifest comes later and wins.
    let user = user();
    for wanted in user.iter().chain(env) {
        let made = variable(ctx, wanted)?;
        all.retain(|known| known.name != made.name);
        all.push(made);
    }
    if let Some(made) = handover::gang_variable(ctx) {
        all.retain(|known| known.name != made.name);
        all.push(made);
    }
    Ok(all)
}

/// A variable as a container has it.
fn variable(ctx: &Context<'_>, wanted: &EnvVar) -> Result<PodEnvVar, ObjectsError> {
    let mut made = PodEnvVar { name: wanted.name.clone(), ..PodEnvVar::default() };
    match &wanted.value {
        Value::Secret { secret, key } => made.value_from = Some(secret_source(secret, key)),
        value => made.value = Some(text(ctx, value)?),
    }
    Ok(made)
}

/// Arguments as a container has them.
pub(super) fn arguments(ctx: &Context<'_>, values: &[Value]) -> Result<Vec<String>, ObjectsError> {
    values.iter().map(|value| text(ctx, value)).collect()
}

/// A value as a container has it: Kubernetes itself expands `$(NAME)`.
fn text(ctx: &Context<'_>, value: &Value) -> Result<String, ObjectsError> {
    let job = || ctx.plan.name.clone();
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Secret { .. } => Err(ObjectsError::SecretArgument { service: job() }),
        Value::Port(_) | Value::AddressFile | Value::Volume { .. } => {
            Err(ObjectsError::LocalPlan { service: job(), what: "a part of its command" })
        }
    }
}

pub(super) fn credentials(ctx: &Context<'_>) -> Option<Vec<EnvFromSource>> {
    let secret = ctx.plan.checkpoint.as_ref()?.credentials_secret.clone()?;
    Some(vec![EnvFromSource {
        secret_ref: Some(SecretEnvSource { name: secret, optional: None }),
        ..EnvFromSource::default()
    }])
}

/// Disk that the pod's volumes may take.
pub(super) fn disk(ctx: &Context<'_>) -> Bytes {
    let of = |source: &VolumeSource| match source {
        VolumeSource::Scratch { limit } => limit.0,
        _ => 0,
    };
    let volumes = ctx.plan.volumes.iter().map(|volume| of(&volume.source));
    let fixed = AGENT_SIZE.0.saturating_add(data::limit(ctx).0);
    Bytes(volumes.fold(fixed, u64::saturating_add))
}

pub(super) fn volumes(ctx: &Context<'_>) -> Vec<PodVolume> {
    let empty = |limit: Bytes, medium: Option<&str>| {
        Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(limit.to_string())),
            medium: medium.map(str::to_owned),
        })
    };
    let mut volumes = vec![PodVolume {
        name: AGENT_CONTAINER.to_owned(),
        empty_dir: empty(AGENT_SIZE, None),
        ..PodVolume::default()
    }];
    volumes.extend(ctx.plan.volumes.iter().map(|volume| {
        let mut made = PodVolume { name: volume.name.clone(), ..PodVolume::default() };
        match &volume.source {
            VolumeSource::Memory { limit } => made.empty_dir = empty(*limit, Some("Memory")),
            VolumeSource::Claim { name, .. } => {
                made.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                    claim_name: name.clone(),
                    read_only: None,
                });
            }
            VolumeSource::Scratch { limit } => made.empty_dir = empty(*limit, None),
            // The compiler gives a worker no other.
            VolumeSource::Host(_) | VolumeSource::Model { .. } | VolumeSource::Config(_) => {}
        }
        made
    }));
    volumes.extend(ctx.secret().map(|name| PodVolume {
        name: SECRET_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..PodVolume::default()
    }));
    volumes.extend(data::volumes(ctx));
    volumes
}
