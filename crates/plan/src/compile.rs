//! The compiler: a resource and facts become a [`Plan`].

use std::time::Duration;

use serde::Serialize;
use trainyard_api::ModelService;
use trainyard_api::defaults::{Complete, complete};
use trainyard_api::model_service::{Resources, RolloutStrategy, RuntimeName};
use trainyard_api::scalar::{Bytes, Millicores};

use crate::contract::KnobConflict;
use crate::facts::{Facts, Target};
use crate::policy::{Abort, Access, Placement, RateLimit, Rollout, Scaling, Strategy};
use crate::pool::PoolError;
use crate::revision::RevisionName;
use crate::runtime;
use crate::workload::{VolumeSource, Workload};

/// All that a back end has to know of one service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Namespace and name of the resource.
    pub namespace: Option<String>,
    pub name: String,
    /// Which preset made the workload.
    pub runtime: RuntimeName,
    /// Names the workload's content; a new one means new replicas.
    pub revision: RevisionName,
    pub workload: Workload,
    pub service: Service,
    pub scaling: Scaling,
    pub rollout: Rollout,
    pub access: Access,
    pub placement: Placement,
    /// What the person should know though it is no error: each names a field and says what the
    /// back end makes of it.
    pub notes: Vec<String>,
}

/// The endpoint in front of the replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Name of the workload's port that requests go to.
    pub port: String,
    /// Names of models, as requests name them.
    pub models: Vec<String>,
}

/// Why a resource has no plan. Each is a person's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("`metadata.name` is missing")]
    NoName,
    #[error(
        "`spec.runtime.name: {runtime}` of `{service}` runs in the image `{image}`, which needs a \
         container engine; processes on this machine can run `onnx` and `custom` runtimes, and \
         Kubernetes runs all of them"
    )]
    NeedsContainers { service: String, runtime: &'static str, image: String },
    #[error(
        "`spec.runtime` of `{service}` has an image and no command, and this machine runs commands \
         only; add the `command` that the image would run"
    )]
    NeedsCommand { service: String },
    #[error(
        "`spec.runtime.image` of `{service}` is missing: in Kubernetes a `custom` command runs in an image"
    )]
    NeedsImage { service: String },
    #[error(
        "one replica of `{service}` asks for {asked} of CPU, and this machine has {there}; lower `spec.resources.cpu`"
    )]
    TooMuchCpu { service: String, asked: Millicores, there: Millicores },
    #[error(
        "one replica of `{service}` asks for {asked} of memory, and this machine has {there}; lower `spec.resources.memory`"
    )]
    TooMuchMemory { service: String, asked: Bytes, there: Bytes },
    #[error("the model of `{service}` at `{uri}` was not fetched before its plan was made")]
    NoModel { service: String, uri: String },
    #[error("`spec.model.uri: {uri}` of `{service}` cannot be had in a cluster: {help}")]
    NotInACluster { service: String, uri: String, help: &'static str },
    #[error(
        "`spec.resources.gpu` of `{service}` takes a part of a GPU from the pool `{pool}`, which there is not; declare the pool with the way it shares its GPUs, or ask for whole GPUs with `count`"
    )]
    NoPool { service: String, pool: String },
    #[error(
        "`spec.resources.gpu.pool: {pool}` of `{service}` shares its GPUs ({parts}), and `count` asks for whole ones; ask for `memory` or `share`, or name another pool"
    )]
    SharedPool { service: String, pool: String, parts: String },
    #[error("the GPU pool of `{service}` cannot be used: {error}")]
    BrokenPool { service: String, error: PoolError },
    #[error(
        "`spec.resources.gpu.product: {asked}` of `{service}` is not what the pool `{pool}` has, `{has}`; name another pool, or leave the product out"
    )]
    OtherProduct { service: String, pool: String, asked: String, has: String },
    #[error(
        "the pool `{pool}` of `{service}` has {rented} nodes, and `spec.placement.spot` is `{spot}`; set it to `prefer`, or name another pool in `spec.resources.gpu.pool`"
    )]
    OtherCapacity { service: String, pool: String, rented: &'static str, spot: &'static str },
    #[error("{0}")]
    GpuKnob(Box<KnobConflict>),
    #[error(
        "`spec.resources.gpu` of `{service}` asks for {asked} of a GPU, and a part of the pool `{pool}` is {part}; ask for less, name another pool, or cut its GPUs into fewer parts"
    )]
    TooMuchGpu { service: String, pool: String, asked: String, part: String },
    #[error(
        "nothing says how much memory the GPUs of `{service}` have, which is needed to turn {asked} into what `{runtime}` takes; name `spec.resources.gpu.product`, or give the pool its memory"
    )]
    UnknownGpuMemory { service: String, runtime: &'static str, asked: String },
    #[error(
        "the workload of `{service}` cannot be written as JSON for its revision's name: {reason}"
    )]
    Revision { service: String, reason: String },
}

/// Compiles one service.
///
/// Deterministic. The resource should have been validated; what was not is still no panic.
pub fn compile(service: &ModelService, facts: &Facts) -> Result<Plan, PlanError> {
    let name = service.metadata.name.clone().ok_or(PlanError::NoName)?;
    let spec = complete(&service.spec);
    let mut notes = Vec::new();
    check_machine(&name, &spec.asked, facts)?;

    let runtime = runtime::preset(spec.runtime.name);
    let workload = runtime.workload(&runtime::Request {
        service: &name,
        model: service.model_name(),
        spec: &spec,
        facts,
    })?;
    let progress_deadline = match facts.target {
        Target::Local { .. } => Rollout::PROGRESS_DEADLINE,
        Target::Kubernetes { .. } => progress_deadline(&workload),
    };
    let fingerprint = facts.model.as_ref().and_then(|model| model.fingerprint.as_deref());
    let revision = RevisionName::of(&name, &workload, fingerprint).map_err(|error| {
        PlanError::Revision { service: name.clone(), reason: error.to_string() }
    })?;
    if matches!(facts.target, Target::Local { .. }) {
        notes.extend(kubernetes_only(service, &spec));
    }
    notes.extend(runtime::notes(&name, &spec, facts));

    Ok(Plan {
        namespace: service.metadata.namespace.clone(),
        runtime: spec.runtime.name,
        revision,
        service: Service { port: "http".to_owned(), models: vec![service.model_name().to_owned()] },
        scaling: scaling(&spec),
        rollout: Rollout { progress_deadline, ..rollout(&spec) },
        workload,
        access: Access {
            api_keys_secret: spec.access.api_keys_secret,
            from_workspaces: spec.access.from_workspaces,
            rate_limit: spec
                .access
                .rate_limit
                .map(|(per_second, burst)| RateLimit { per_second, burst }),
        },
        placement: Placement {
            spot: spec.placement.spot,
            node_selector: spec.placement.node_selector,
            tolerations: spec.placement.tolerations,
            spread: spec.placement.spread,
            topology: spec.placement.topology,
        },
        name,
        notes,
    })
}

/// What was written down must fit the machine. Defaults must not: a default is no demand.
fn check_machine(service: &str, asked: &Resources, facts: &Facts) -> Result<(), PlanError> {
    let Target::Local { cpu, memory, .. } = facts.target else {
        return Ok(());
    };
    let service = service.to_owned();
    if let Some(asked) = asked.cpu.filter(|asked| *asked > cpu) {
        return Err(PlanError::TooMuchCpu { service, asked, there: cpu });
    }
    if let Some(asked) = asked.memory.filter(|asked| *asked > memory) {
        return Err(PlanError::TooMuchMemory { service, asked, there: memory });
    }
    Ok(())
}

/// How long a pod may show no progress: its image is pulled, its model fetched, and it starts.
fn progress_deadline(workload: &Workload) -> Duration {
    // Images with CUDA and a framework have about 10 GB.
    const PULL: Duration = Duration::from_secs(600);
    // Beyond the startup probe's own time, so that the restart shows first, with its cause.
    const MARGIN: Duration = Duration::from_secs(60);
    const FETCH_BYTES_PER_SECOND: u64 = 10 << 20;
    let fetched = workload.volumes.iter().any(|it| matches!(it.source, VolumeSource::Model { .. }));
    let bytes = workload.resources.memory.filter(|_| fetched).map_or(0, |memory| memory.0);
    let startup = &workload.probes.startup;
    let started = startup.period.saturating_mul(startup.failures);
    PULL + Duration::from_secs(bytes / FETCH_BYTES_PER_SECOND) + started + MARGIN
}

fn scaling(spec: &Complete) -> Scaling {
    let scaling = &spec.scaling;
    Scaling {
        min: scaling.min,
        max: scaling.max,
        concurrency: scaling.concurrency.map(f64::from),
        max_concurrency: scaling.max_concurrency,
        rps: scaling.rps.map(f64::from),
        cpu: scaling.cpu,
        memory: scaling.memory,
        gpu: scaling.gpu,
        scale_to_zero_after: scaling.scale_to_zero_after,
    }
}

fn rollout(spec: &Complete) -> Rollout {
    let rollout = &spec.rollout;
    Rollout {
        strategy: match rollout.strategy {
            RolloutStrategy::Rolling => Strategy::ROLLING,
            RolloutStrategy::Canary => {
                Strategy::Canary { steps: rollout.steps.clone(), pause: rollout.pause }
            }
            RolloutStrategy::BlueGreen => Strategy::BlueGreen { pause: rollout.pause },
        },
        abort: Abort {
            error_rate: rollout.abort.error_rate,
            p99: rollout.abort.p99.map(|p99| p99.0),
        },
        mirror: rollout.mirror,
        sticky_header: rollout.sticky_header.clone(),
        progress_deadline: Rollout::PROGRESS_DEADLINE,
    }
}

/// Fields that this machine cannot act on, so that nobody waits for their effect.
fn kubernetes_only(service: &ModelService, spec: &Complete) -> Vec<String> {
    let scaling = &spec.scaling;
    let access = service.spec.access.as_ref();
    let written = [
        ("spec.scaling.memory", scaling.memory.is_some()),
        ("spec.scaling.gpu", scaling.gpu.is_some()),
        ("spec.resources.gpu", spec.asked.gpu.is_some()),
        ("spec.placement", service.spec.placement.is_some()),
        ("spec.access.fromWorkspaces", access.is_some_and(|a| a.from_workspaces.is_some())),
        ("spec.runtime.image", spec.runtime.image.is_some()),
    ];
    let mut notes: Vec<String> = written
        .into_iter()
        .filter(|(_, is_written)| *is_written)
        .map(|(field, _)| format!("`{field}` acts in Kubernetes only; this machine ignores it"))
        .collect();
    if scaling.cpu.is_some() {
        let cure = if scaling.concurrency.or(scaling.rps).is_none() {
            "; name `spec.scaling.concurrency` or `rps` to scale here too"
        } else {
            ""
        };
        notes.push(format!("`spec.scaling.cpu` acts in Kubernetes only{cure}"));
    }
    notes
}
