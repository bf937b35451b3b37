//! A plan as Kubernetes objects: one file a kind of object.
//!
//! In: a [`Plan`], the [`Track`] to write, and [`Settings`] about the cluster. Out: whole objects in
//! the order in which they should be applied, ready for a server-side apply. Equal inputs give
//! equal bytes. Works on Kubernetes 1.29 and newer.
//!
//! Every choice is explained in `docs/kubernetes.md`.

mod account;
mod autoscaler;
mod claim;
mod config;
mod container;
mod deployment;
mod disruption;
mod job;
mod labels;
mod model;
mod monitoring;
mod network;
mod object;
mod placement;
mod pool;
mod profile;
mod route;
mod service;
mod settings;

pub use container::{pod_security_context, security_context};
pub use job::{
    AGENT_CONTAINER, DATA_CONTAINER, IMAGE_CONTAINER, JobRun, KAI_GANG, LOOK_CONTAINER, TOKEN,
    WORKER_CONTAINER, gang_object, job_name, job_notes_without_operator, job_objects,
    preflight_name, preflight_objects,
};
pub use labels::{ATTEMPT, JOB, PREFLIGHT, REVISION, SERVICE, TRACK, WORKSPACE};
pub use object::Object;
pub use pool::{
    MIG_CONFIG, NodeMarks, PLUGIN_CONFIG, POOL, PluginConfig, effect, node_marks, pool_objects,
    pool_resources, quota_names,
};
pub use profile::Profile;
pub use settings::{ParentGateway, Peer, PullPolicy, Settings, Track};

use crate::compile::Plan;

/// Why a plan cannot be written as objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectsError {
    /// A mistake of who compiled it: a plan for this machine has no place in a cluster.
    #[error(
        "the plan of `{service}` was compiled for processes, not for Kubernetes: {what} exists on one machine only"
    )]
    LocalPlan { service: String, what: &'static str },
    #[error("{what} of `{service}` names the port `{port}`, which it does not have")]
    NoSuchPort { service: String, what: String, port: String },
    #[error("{what} of `{service}` names the volume `{volume}`, which it does not have")]
    NoSuchVolume { service: String, what: String, volume: String },
    #[error(
        "an argument of `{service}` is a secret, which everybody who may see the pod could read; give it as an environment variable"
    )]
    SecretArgument { service: String },
}

/// One plan while it is written: what every kind of object needs.
struct Context<'a> {
    plan: &'a Plan,
    track: Track,
    settings: &'a Settings,
}

impl Context<'_> {
    /// The name of the track's own objects. At most 62 characters: a service has at most 52.
    fn name(&self) -> String {
        match self.track {
            Track::Stable { .. } => self.plan.name.clone(),
            Track::Candidate { .. } => format!("{}-candidate", self.plan.name),
        }
    }

    /// Replicas that somebody named, or else the least that the plan has.
    fn replicas(&self) -> u32 {
        let scaling = &self.plan.scaling;
        match self.track {
            Track::Stable { replicas: Some(replicas) } | Track::Candidate { replicas } => replicas,
            // Nobody is there to start it with the first request.
            Track::Stable { replicas: None } => scaling.min.max(1).min(scaling.max),
        }
    }
}

/// Writes a plan as the objects of one track.
///
/// The stable track has all objects. The candidate's are its own ConfigMap, Service, Deployment and,
/// if it claims devices, ResourceClaimTemplate;
/// account, network policy and disruption budget of the stable track hold for its pods too.
pub fn objects(
    plan: &Plan,
    track: Track,
    settings: &Settings,
) -> Result<Vec<Object>, ObjectsError> {
    let ctx = Context { plan, track, settings };
    let mut objects = Vec::new();
    let is_stable = matches!(track, Track::Stable { .. });
    if is_stable {
        objects.push(account::service_account(&ctx));
        objects.push(network::network_policy(&ctx)?);
    }
    objects.extend(config::config_map(&ctx));
    let gpu = plan.workload.resources.gpu.as_ref();
    objects.extend(claim::template(&plan.name, gpu, |name| ctx.metadata(name, ctx.labels())));
    objects.push(service::service(&ctx)?);
    objects.push(deployment::deployment(&ctx)?);
    if is_stable {
        objects.extend(disruption::disruption_budget(&ctx));
        objects.extend(autoscaler::autoscaler(&ctx));
        objects.extend(monitoring::pod_monitor(&ctx));
        objects.extend(route::http_route(&ctx));
    }
    Ok(objects)
}

/// What the person should know of a plan that is applied with nobody to act on it but Kubernetes.
pub fn notes_without_operator(plan: &Plan) -> Vec<String> {
    let scaling = &plan.scaling;
    let written = [
        ("spec.scaling.min: 0", scaling.min == 0 && scaling.max > 0),
        ("spec.scaling.concurrency", scaling.concurrency.is_some()),
        ("spec.scaling.maxConcurrency", scaling.max_concurrency.is_some()),
        ("spec.scaling.rps", scaling.rps.is_some()),
        ("spec.scaling.gpu", scaling.gpu.is_some()),
        (
            "spec.rollout.strategy",
            !matches!(plan.rollout.strategy, crate::Strategy::Rolling { .. }),
        ),
        ("spec.access.apiKeysSecret", plan.access.api_keys_secret.is_some()),
        ("spec.access.rateLimit", plan.access.rate_limit.is_some()),
    ];
    written
        .into_iter()
        .filter(|(_, is_written)| *is_written)
        .map(|(field, _)| {
            format!(
                "`{field}` of `{}` needs the operator and its gateway; plain objects do without it",
                plan.name
            )
        })
        .collect()
}
