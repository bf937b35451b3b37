//! What a field means that the manifest leaves out: [`complete`] for services, [`complete_job`] for
//! jobs.
//!
//! | field | default | why |
//! |---|---|---|
//! | `runtime.name` | `onnx` | our own server |
//! | `resources.cpu`, `.memory` | `1`, `2Gi` | KServe's for each of its servers; a limit from the start |
//! | `scaling.min` | 1 | Knative's initial scale; going to zero is asked for, since it costs a cold start |
//! | `scaling.max` | `min`, at least 1 | KServe has no limit for `min` 0; rent should not grow unasked |
//! | `scaling.cpu` | 70% if `max` > `min` and no metric is named | somewhat below the HPA's 80%, since models load slowly |
//! | `scaling.scaleToZeroAfter` | 5m | Knative's 60 s + 30 s suits web servers that start in a second |
//! | `rollout.strategy` | `rolling` | a Deployment's |
//! | `rollout.steps` | 5, 20, 50 | three looks, each at four times the requests of the one before or half of all |
//! | `rollout.pause` | 2m | two of Flagger's one-minute intervals |
//! | `access.rateLimit.burst` | `rps` | a second's worth |
//! | `placement.spot` | `never` | an endpoint that vanishes has to be asked for |
//! | `placement.spread` | `nodes` | one node's end should not be the service's |
//!
//! Of jobs:
//!
//! | field | default | why |
//! |---|---|---|
//! | `launcher` | `torchrun` if the command is it, else `agent` | what the command says |
//! | `workers.count` | 1 | a program that knows no others |
//! | `processesPerWorker` | with `pytorch` one for each whole GPU, else 1 | NCCL wants one process a GPU; other frameworks use all GPUs of a worker from one |
//! | `resources.cpu`, `.memory` | `1`, `2Gi` | as for services |
//! | `data[].mount` | `/data/NAME` | short, and no image has it |
//! | `data[].size` | 100Gi | ImageNet's training images are 138 GB with their archive; what is larger has to be said |
//! | `checkpoint.signal` | `SIGUSR1` | what Slurm's users and PyTorch Lightning take for the same purpose |
//! | `checkpoint.grace` | 2m | the notice that AWS gives before it takes a spot machine |
//! | `checkpoint.writers` | `first` | what data parallel training does: all have the same state, and one saves it |
//! | `checkpoint.keep` | 3 | one that is damaged and one before it leave a good one |
//! | `placement.spot` | `never` | an interruption costs what was done since the last checkpoint; it has to be asked for |
//! | `placement.spread` | `none` | workers talk to each other more than to anybody else, so near is better than apart |
//! | `retries` | 3 | between a Job's 6, each of one pod, and none: the whole gang is started again |
//!
//! Only `scaling.min` is also written into the object by the API server; the others may change with
//! a release without touching stored objects. `replicas` has no default on purpose: where it is set,
//! somebody else decides, and `scaling` rests.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model_service::{
    Abort, Batching, EnvVar, Model, ModelServiceSpec, Placement, Resources, RolloutStrategy,
    RuntimeName, Scaling, Spot, Spread, Toleration, Topology,
};
use crate::scalar::{Bytes, Millicores, ModelUri, Percent};
use crate::training_job::{
    CheckpointSignal, Data, Framework, Launcher, Progress, QueuedBy, TrainingJobSpec, Writers,
};

pub(crate) fn min_replicas() -> u32 {
    1
}

const CPU: Millicores = Millicores(1000);
const MEMORY: Bytes = Bytes(2 << 30);
const CPU_TARGET: Percent = Percent::whole(70);
const DATA: Bytes = Bytes(100 << 30);
const SCALE_TO_ZERO_AFTER: Duration = Duration::from_secs(300);
const CANARY_STEPS: [u8; 3] = [5, 20, 50];
const PAUSE: Duration = Duration::from_secs(120);
const CHECKPOINT_GRACE: Duration = Duration::from_secs(120);
const KEPT_CHECKPOINTS: u32 = 3;
const RETRIES: u32 = 3;
/// Every cloud's nodes have it.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A [`ModelServiceSpec`] in which everything that has a default has a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Complete {
    pub model: Model,
    pub runtime: CompleteRuntime,
    pub cpu: Millicores,
    pub memory: Bytes,
    /// What was asked for in so many words. A process on a laptop is held to this only: a default
    /// limit would slow the one model that its user tries.
    pub asked: Resources,
    /// Each field of it that is none is the runtime's to choose.
    pub batching: Batching,
    pub scaling: CompleteScaling,
    pub rollout: CompleteRollout,
    pub access: CompleteAccess,
    pub placement: CompletePlacement,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CompleteRuntime {
    pub name: RuntimeName,
    pub image: Option<String>,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<EnvVar>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CompleteScaling {
    pub min: u32,
    pub max: u32,
    pub cpu: Option<Percent>,
    pub memory: Option<Percent>,
    pub gpu: Option<Percent>,
    pub concurrency: Option<u32>,
    pub max_concurrency: Option<u32>,
    pub rps: Option<u32>,
    pub scale_to_zero_after: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CompleteRollout {
    pub strategy: RolloutStrategy,
    pub steps: Vec<u8>,
    pub pause: Duration,
    pub abort: Abort,
    pub mirror: Option<Percent>,
    pub sticky_header: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CompleteAccess {
    pub api_keys_secret: Option<String>,
    pub from_workspaces: Vec<String>,
    /// Requests per second, and at once, of one caller.
    pub rate_limit: Option<(u32, u32)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CompletePlacement {
    pub spot: Spot,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    pub spread: Spread,
    /// Nothing for services.
    pub topology: Topology,
}

/// Applies every default. The only place that knows one.
pub fn complete(spec: &ModelServiceSpec) -> Complete {
    let resources = spec.resources.clone().unwrap_or_default();
    Complete {
        model: spec.model.clone(),
        runtime: runtime(spec),
        cpu: resources.cpu.unwrap_or(CPU),
        memory: resources.memory.unwrap_or(MEMORY),
        asked: resources,
        batching: spec.batching.clone().unwrap_or_default(),
        scaling: spec.replicas.map_or_else(|| scaling(&spec.scaling), |n| pinned(n, &spec.scaling)),
        rollout: rollout(spec),
        access: access(spec),
        placement: placement(spec.placement.clone().unwrap_or_default(), Spread::default()),
    }
}

fn runtime(spec: &ModelServiceSpec) -> CompleteRuntime {
    let runtime = spec.runtime.clone();
    CompleteRuntime {
        name: runtime.as_ref().map_or(RuntimeName::Onnx, |runtime| runtime.name),
        image: runtime.as_ref().and_then(|runtime| runtime.image.clone()),
        command: runtime.as_ref().and_then(|runtime| runtime.command.clone()).unwrap_or_default(),
        args: runtime.as_ref().and_then(|runtime| runtime.args.clone()).unwrap_or_default(),
        env: runtime.and_then(|runtime| runtime.env).unwrap_or_default(),
    }
}

fn scaling(scaling: &Scaling) -> CompleteScaling {
    let Scaling { min, cpu, memory, gpu, concurrency, rps, .. } = *scaling;
    let max = scaling.max.unwrap_or(min).max(1);
    let names_a_metric = cpu.or(memory).or(gpu).is_some() || concurrency.or(rps).is_some();
    CompleteScaling {
        min,
        max,
        cpu: cpu.or((max > min.max(1) && !names_a_metric).then_some(CPU_TARGET)),
        memory,
        gpu,
        concurrency,
        max_concurrency: scaling.max_concurrency,
        rps,
        scale_to_zero_after: scaling.scale_to_zero_after.map_or(SCALE_TO_ZERO_AFTER, |p| p.0),
    }
}

/// So many replicas and no metric that could move them; what the gateway holds back stays.
fn pinned(replicas: u32, scaling: &Scaling) -> CompleteScaling {
    CompleteScaling {
        min: replicas,
        max: replicas,
        cpu: None,
        memory: None,
        gpu: None,
        concurrency: None,
        max_concurrency: scaling.max_concurrency,
        rps: None,
        scale_to_zero_after: SCALE_TO_ZERO_AFTER,
    }
}

fn rollout(spec: &ModelServiceSpec) -> CompleteRollout {
    let rollout = spec.rollout.clone().unwrap_or_default();
    let strategy = rollout.strategy.unwrap_or_default();
    let steps = match strategy {
        RolloutStrategy::Canary => rollout.steps.unwrap_or_else(|| CANARY_STEPS.to_vec()),
        RolloutStrategy::Rolling | RolloutStrategy::BlueGreen => Vec::new(),
    };
    CompleteRollout {
        strategy,
        steps,
        pause: rollout.pause.map_or(PAUSE, |pause| pause.0),
        abort: rollout.abort.unwrap_or_default(),
        mirror: rollout.mirror,
        sticky_header: rollout.sticky_header,
    }
}

fn access(spec: &ModelServiceSpec) -> CompleteAccess {
    let access = spec.access.clone().unwrap_or_default();
    CompleteAccess {
        api_keys_secret: access.api_keys_secret,
        from_workspaces: access.from_workspaces.unwrap_or_default(),
        rate_limit: access.rate_limit.map(|limit| (limit.rps, limit.burst.unwrap_or(limit.rps))),
    }
}

fn placement(placement: Placement, spread: Spread) -> CompletePlacement {
    CompletePlacement {
        spot: placement.spot.unwrap_or_default(),
        node_selector: placement.node_selector.unwrap_or_default(),
        tolerations: placement.tolerations.unwrap_or_default(),
        spread: placement.spread.unwrap_or(spread),
        topology: placement.topology.unwrap_or_default(),
    }
}

/// Workers in two zones wait for each other's messages at every step, and each byte is paid for.
fn placement_of_job(spec: &TrainingJobSpec, workers: u32) -> CompletePlacement {
    let asked = spec.placement.clone().unwrap_or_default();
    let says_nothing = asked.topology.is_none();
    let mut placement = placement(asked, Spread::None);
    if says_nothing && workers > 1 && placement.spread == Spread::None {
        placement.topology.preferred = Some(ZONE.to_owned());
    }
    placement
}

/// A [`TrainingJobSpec`] in which everything that has a default has a value.
#[derive(Debug, Clone, PartialEq)]
pub struct CompleteJob {
    pub framework: Framework,
    /// [`Launcher::Agent`] for all but PyTorch.
    pub launcher: Launcher,
    pub image: Option<String>,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<EnvVar>,
    pub workers: u32,
    /// Of each worker.
    pub processes: u32,
    pub cpu: Millicores,
    pub memory: Bytes,
    /// What was asked for in so many words, of one worker.
    pub asked: Resources,
    pub data: Vec<CompleteData>,
    pub checkpoint: Option<CompleteCheckpoint>,
    pub progress: Option<Progress>,
    pub deadline: Option<Duration>,
    pub retries: u32,
    pub is_suspended: bool,
    pub ttl_after_finished: Option<Duration>,
    pub priority_class: Option<String>,
    /// Which queue says when it may start.
    pub queue: Option<String>,
    /// Whose queue it is, if that was said.
    pub queued_by: Option<QueuedBy>,
    /// In its queue.
    pub priority: i32,
    /// So many workers will do.
    pub min_workers: u32,
    pub placement: CompletePlacement,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteData {
    pub name: String,
    pub uri: ModelUri,
    pub sha256: Option<String>,
    pub credentials_secret: Option<String>,
    pub mount: String,
    pub size: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteCheckpoint {
    pub path: String,
    pub uri: Option<String>,
    pub credentials_secret: Option<String>,
    pub writers: Writers,
    pub keep: u32,
    pub interval: Option<Duration>,
    pub signal: CheckpointSignal,
    pub grace: Duration,
}

/// Applies every default of a job.
pub fn complete_job(spec: &TrainingJobSpec) -> CompleteJob {
    let resources = spec.resources.clone().unwrap_or_default();
    let gpus = resources.gpu.as_ref().and_then(|gpu| gpu.count);
    let (workers, min) = spec.workers.as_ref().map_or((1, None), |it| (it.count, it.min));
    let processes = match spec.framework {
        Framework::PyTorch => gpus.unwrap_or(1),
        Framework::TensorFlow | Framework::Jax | Framework::Mpi | Framework::Generic => 1,
    };
    let is_torchrun = spec.framework == Framework::PyTorch && starts_torchrun(&spec.command);
    let launcher = if is_torchrun { Launcher::Torchrun } else { Launcher::Agent };
    CompleteJob {
        framework: spec.framework,
        launcher: spec.launcher.unwrap_or(launcher),
        image: spec.image.clone(),
        command: spec.command.clone(),
        args: spec.args.clone().unwrap_or_default(),
        env: spec.env.clone().unwrap_or_default(),
        workers,
        min_workers: min.unwrap_or(workers),
        processes: spec.processes_per_worker.unwrap_or(processes),
        cpu: resources.cpu.unwrap_or(CPU),
        memory: resources.memory.unwrap_or(MEMORY),
        asked: resources,
        data: spec.data.iter().flatten().map(complete_data).collect(),
        checkpoint: spec.checkpoint.as_ref().map(|checkpoint| CompleteCheckpoint {
            path: checkpoint.path.clone(),
            uri: checkpoint.uri.clone(),
            credentials_secret: checkpoint.credentials_secret.clone(),
            writers: checkpoint.writers.unwrap_or_default(),
            keep: checkpoint.keep.unwrap_or(KEPT_CHECKPOINTS),
            interval: checkpoint.interval.map(|interval| interval.0),
            signal: checkpoint.signal.unwrap_or_default(),
            grace: checkpoint.grace.map_or(CHECKPOINT_GRACE, |grace| grace.0),
        }),
        progress: spec.progress.clone(),
        deadline: spec.deadline.map(|deadline| deadline.0),
        retries: spec.retries.unwrap_or(RETRIES),
        is_suspended: spec.suspend.unwrap_or(false),
        ttl_after_finished: spec.ttl_after_finished.map(|ttl| ttl.0),
        priority_class: spec.priority_class.clone(),
        queue: spec.queue.clone(),
        queued_by: spec.queued_by,
        priority: spec.priority.unwrap_or(0),
        placement: placement_of_job(spec, workers),
    }
}

fn complete_data(data: &Data) -> CompleteData {
    CompleteData {
        name: data.name.clone(),
        uri: data.uri.clone(),
        sha256: data.sha256.clone(),
        credentials_secret: data.credentials_secret.clone(),
        mount: data.mount.clone().unwrap_or_else(|| format!("/data/{}", data.name)),
        size: data.size.unwrap_or(DATA),
    }
}

/// Whether a command is torchrun, by one of its names.
fn starts_torchrun(command: &[String]) -> bool {
    let program = command.first().and_then(|program| program.rsplit('/').next());
    let is_module = |module: &str| {
        let module = module.strip_suffix(".__main__").unwrap_or(module);
        matches!(module, "torch.distributed.run" | "torch.distributed.launch")
    };
    program == Some("torchrun")
        || command.windows(2).any(|pair| pair[0] == "-m" && is_module(&pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: &str) -> CompleteJob {
        let text = format!(
            "apiVersion: trainyard.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: digits}}\nspec: {spec}"
        );
        let mut jobs = crate::manifest::read("digits.yaml", &text).expect("valid").jobs;
        complete_job(&jobs.remove(0).value.spec)
    }

    #[test]
    fn everything_that_a_job_leaves_out() {
        insta::assert_snapshot!(format!("{:#?}", job("{framework: generic, command: [train]}")));
    }

    #[test]
    fn what_a_job_says_stays() {
        let spec =
            "{framework: pytorch, launcher: agent, image: i, command: [torchrun, a], args: [b],
            env: [{name: A}], workers: {count: 4}, processesPerWorker: 2,
            resources: {cpu: 2, memory: 1Gi, gpu: {count: 8}},
            checkpoint: {path: out, signal: SIGUSR2, grace: 30s}, progress: {timeout: 5m},
            deadline: 1h, retries: 0}";
        insta::assert_snapshot!(format!("{:#?}", job(spec)));
    }

    #[test]
    fn processes_and_launchers() {
        let of = |spec: &str| {
            let job = job(spec);
            (job.launcher, job.processes)
        };
        let gpus = "resources: {gpu: {count: 4}}";
        let check = |start: &str, expected| {
            assert_eq!(of(&format!("{{{start}, {gpus}}}")), expected, "{start}");
        };
        check("framework: pytorch, command: [python3, t.py]", (Launcher::Agent, 4));
        check("framework: pytorch, command: [/usr/bin/torchrun, t.py]", (Launcher::Torchrun, 4));
        check(
            "framework: pytorch, command: [python, -m, torch.distributed.run, t.py]",
            (Launcher::Torchrun, 4),
        );
        check("framework: jax, command: [python3, t.py]", (Launcher::Agent, 1));
        check("framework: generic, command: [torchrun]", (Launcher::Agent, 1));
        assert_eq!(of("{framework: pytorch, command: [a], resources: {gpu: {share: 1/4}}}").1, 1);
    }

    #[track_caller]
    fn check(scaling: Scaling, expected: (u32, u32, Option<u16>)) {
        let complete = super::scaling(&scaling);
        let cpu = expected.2.map(Percent::whole);
        assert_eq!((complete.min, complete.max, complete.cpu), (expected.0, expected.1, cpu));
    }

    #[test]
    fn scaling_table() {
        let default = Scaling::default();
        check(default.clone(), (1, 1, None));
        check(Scaling { min: 0, ..default.clone() }, (0, 1, None));
        check(Scaling { min: 3, ..default.clone() }, (3, 3, None));
        check(Scaling { max: Some(4), ..default.clone() }, (1, 4, Some(70)));
        check(Scaling { min: 0, max: Some(1), ..default.clone() }, (0, 1, None));
        check(Scaling { max: Some(4), concurrency: Some(8), ..default }, (1, 4, None));
    }

    #[test]
    fn replicas_win_over_scaling() {
        let spec = "{model: {uri: file://./m}, replicas: 4, scaling: {min: 2, max: 3, rps: 5, maxConcurrency: 7}}";
        let scaling = read(spec).scaling;
        assert_eq!((scaling.min, scaling.max, scaling.rps), (4, 4, None));
        assert_eq!(scaling.max_concurrency, Some(7));
        let stopped = read("{model: {uri: file://./m}, replicas: 0}").scaling;
        assert_eq!((stopped.min, stopped.max), (0, 0));
    }

    fn read(spec: &str) -> Complete {
        let text = format!(
            "apiVersion: trainyard.dev/v1alpha1\nkind: ModelService\nmetadata: {{name: iris}}\nspec: {spec}"
        );
        let mut services = crate::manifest::read("iris.yaml", &text).expect("valid").services;
        complete(&services.remove(0).value.spec)
    }

    #[test]
    fn everything_that_is_left_out() {
        insta::assert_snapshot!(format!("{:#?}", read("{model: {uri: file://./iris}}")));
    }

    #[test]
    fn what_is_said_stays() {
        let spec = "{model: {uri: file://./iris}, resources: {cpu: 2}, runtime: {name: custom, command: [a], env: [{name: A}]},
            rollout: {strategy: canary, pause: 5s, mirror: 5%}, access: {rateLimit: {rps: 7}},
            placement: {spot: only, spread: none}, scaling: {min: 0, rps: 9, scaleToZeroAfter: 1m}}";
        insta::assert_snapshot!(format!("{:#?}", read(spec)));
    }

    #[test]
    fn steps_are_a_canarys_and_a_burst_is_a_seconds_worth() {
        let rollout = |rollout: &str| {
            read(&format!("{{model: {{uri: file://./m}}, rollout: {rollout}}}")).rollout
        };
        assert_eq!(rollout("{}").steps, Vec::<u8>::new());
        assert_eq!(rollout("{strategy: blueGreen}").steps, Vec::<u8>::new());
        assert_eq!(rollout("{strategy: canary}").steps, CANARY_STEPS);
        assert_eq!(rollout("{strategy: canary, steps: [30]}").steps, [30]);
        assert_eq!(rollout("{strategy: blueGreen}").pause, PAUSE);
        let limit = |limit: &str| {
            let spec = format!("{{model: {{uri: file://./m}}, access: {{rateLimit: {limit}}}}}");
            read(&spec).access.rate_limit
        };
        assert_eq!(limit("{rps: 7}"), Some((7, 7)));
        assert_eq!(limit("{rps: 7, burst: 20}"), Some((7, 20)));
    }
}
