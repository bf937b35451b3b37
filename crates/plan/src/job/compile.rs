//! The compiler of jobs.

use std::time::Duration;

use serde::Serialize;
use trainyard_api::TrainingJob;
use trainyard_api::defaults::{CompleteCheckpoint, CompleteJob, complete_job};
use trainyard_api::model_service::EnvVar as Declared;
use trainyard_api::scalar::{Bytes, Millicores, Period};
use trainyard_api::training_job::{
    CheckpointSignal, Framework, Launcher, Writers, wrong_log_pattern,
};

use super::data::{self, DataSet};
use super::gang::{self, Address, GANG, Gang};
use super::handover::{Handover, QueueSystem};
use super::{devices, mpi, storage};
use crate::compile::PlanError;
use crate::facts::Target;
use crate::policy::Placement;
use crate::workload::{EnvVar, Resources, Value, Volume};

/// All that a back end has to know of one job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobPlan {
    /// Namespace and name of the resource.
    pub namespace: Option<String>,
    pub name: String,
    pub framework: Framework,
    pub launcher: Launcher,
    /// Agents that are started, at once or not at all.
    pub workers: u32,
    /// Processes of the job that each of them starts, or that its torchrun or mpirun does.
    pub processes: u32,
    /// Runs the command; none on a machine without a container engine.
    pub image: Option<String>,
    /// The program and its arguments, as the agent starts it.
    pub command: Vec<Value>,
    pub env: Vec<EnvVar>,
    /// Of one worker.
    pub resources: Resources,
    /// What its program reads.
    pub data: Vec<DataSet>,
    pub checkpoint: Option<Checkpoint>,
    pub progress: Option<Progress>,
    pub deadline: Option<Duration>,
    pub retries: u32,
    /// Nothing starts, and what runs ends. Kubernetes only.
    pub is_suspended: bool,
    /// How long it stays when it is over. Kubernetes only.
    pub ttl_after_finished: Option<Duration>,
    /// Of the workers' pods. Kubernetes only.
    pub priority_class: Option<String>,
    /// Who lets its workers start, if it is neither Trainyard nor nobody. Kubernetes only. What is
    /// compiled is what the manifest says; an operator, which knows the cluster's queues, says more.
    pub handover: Option<Handover>,
    pub placement: Placement,
    /// Of one worker; a process on a machine has the machine's own folders.
    pub volumes: Vec<Volume>,
    /// The Secret that nobody has but its workers, by which they know each other; none where none of
    /// them does anything for another. Kubernetes only.
    pub secret: Option<String>,
    /// What the person should know though it is no error.
    pub notes: Vec<String>,
}

/// How a program is asked for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// On a machine below the manifest's folder, if it is not absolute; in Kubernetes absolute.
    pub path: String,
    /// The store of whole checkpoints, as the agent sees it; none if they stay where they are.
    pub uri: Option<String>,
    /// Which workers bring theirs to the store, where each has a folder of its own.
    pub writers: Writers,
    /// Its variables are the store's credentials.
    pub credentials_secret: Option<String>,
    /// That it keeps.
    pub keep: u32,
    /// How much of the program's time an interruption may cost; none where the program alone decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    pub signal: CheckpointSignal,
    pub grace: Duration,
}

/// How to see that a program gets on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub timeout: Duration,
    pub log_pattern: Option<String>,
}

/// Why a job has no plan. Each is a person's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    #[error("`metadata.name` is missing")]
    NoName,
    #[error(
        "the {workers} workers of `{job}` ask for {asked} of CPU together, and this machine has {there}; lower `spec.workers.count` or `spec.resources.cpu`"
    )]
    TooMuchCpu { job: String, workers: u32, asked: Millicores, there: Millicores },
    #[error(
        "the {workers} workers of `{job}` ask for {asked} of memory together, and this machine has {there}; lower `spec.workers.count` or `spec.resources.memory`"
    )]
    TooMuchMemory { job: String, workers: u32, asked: Bytes, there: Bytes },
    #[error(
        "the {workers} workers of `{job}` ask for {asked} GPUs together, and this machine has {there}; lower `spec.workers.count` or `spec.resources.gpu`"
    )]
    TooManyGpus { job: String, workers: u32, asked: u32, there: u32 },
    #[error(
        "`spec.env` of `{job}` sets `{name}`, by which its processes find each other; remove it: it follows from `workers.count` and `processesPerWorker`"
    )]
    ReservedVariable { job: String, name: String },
    #[error("`spec.progress.logPattern` of `{job}` is no regular expression: {why}")]
    LogPattern { job: String, why: String },
    #[error(
        "`spec.image` of `{job}` is missing: in Kubernetes its command runs in an image; name one that holds the program"
    )]
    NeedsImage { job: String },
    #[error("`spec.checkpoint.path: {path}` of `{job}` {why}")]
    CheckpointPath { job: String, path: String, why: &'static str },
    #[error("`spec.checkpoint.uri: {uri}` of `{job}` cannot be had {help}")]
    CheckpointUri { job: String, uri: String, help: &'static str },
    #[error("`spec.data` of `{job}`: `{data}` at {uri} cannot be had {help}")]
    DataUri { job: String, data: String, uri: String, help: &'static str },
    #[error("`spec.data` of `{job}`: the mount `{mount}` of `{data}` {why}")]
    DataMount { job: String, data: String, mount: String, why: String },
    #[error(transparent)]
    Gpu(#[from] PlanError),
}

/// Compiles one job.
///
/// Deterministic. The resource should have been validated; what was not is still no panic.
pub fn compile_job(job: &TrainingJob, target: &Target) -> Result<JobPlan, JobError> {
    let name = job.metadata.name.clone().ok_or(JobError::NoName)?;
    let spec = complete_job(&job.spec);
    match target {
        Target::Local { cpu, memory, gpus } => {
            fits(&name, &spec, *cpu, *memory)?;
            let asked = devices::whole_gpus(&spec, target).saturating_mul(spec.workers);
            if asked > *gpus {
                let (job, workers) = (name, spec.workers);
                return Err(JobError::TooManyGpus { job, workers, asked, there: *gpus });
            }
        }
        Target::Kubernetes { .. } => runs_in_pods(&name, &spec)?,
    }
    let is_local = matches!(target, Target::Local { .. });
    if let Some(var) = spec.env.iter().find(|var| gang::is_reserved(spec.framework, &var.name)) {
        return Err(JobError::ReservedVariable { job: name, name: var.name.clone() });
    }
    let pattern = spec.progress.as_ref().and_then(|progress| progress.log_pattern.as_deref());
    if let Some(why) = pattern.and_then(wrong_log_pattern) {
        return Err(JobError::LogPattern { job: name, why });
    }
    let mut command: Vec<Value> =
        spec.command.iter().chain(&spec.args).cloned().map(Value::Text).collect();
    let (mut workers, mut processes) = (spec.workers, spec.processes);
    let devices = devices::of(&name, &spec, target)?;
    if spec.framework == Framework::Mpi {
        let all = processes.saturating_mul(workers);
        command = mpi::command(command, all);
        if is_local {
            // One machine is one host to MPI, however many workers it stands for: its processes share
            // memory, and those of Open MPI 5 do not reach each other where two hosts have one name.
            (workers, processes) = (1, all);
        }
    }
    let checkpoint = spec.checkpoint.as_ref();
    let (checkpoint, volumes) = match is_local {
        true => (checkpoint.map(|it| kept(&name, it)).transpose()?, Vec::new()),
        false => storage::of(&name, &spec)?,
    };
    // They run commands for each other, or give each other what they restore.
    let has_store = checkpoint.as_ref().is_some_and(|it: &Checkpoint| it.uri.is_some());
    let know_each_other =
        !is_local && workers > 1 && (spec.framework == Framework::Mpi || has_store);
    let secret = know_each_other.then(|| secret_name(&name, job.metadata.uid.as_deref()));
    let data = data::of(&name, &spec, target, &volumes)?;
    let resources = match is_local {
        // A machine is its user's own: only what was asked for is a limit. Workers that became one
        // have what each of them asks for.
        true => {
            let times = u64::from(spec.workers / workers.max(1));
            Resources {
                cpu: spec.asked.cpu.map(|cpu| Millicores(cpu.0.saturating_mul(times))),
                memory: spec.asked.memory.map(|memory| Bytes(memory.0.saturating_mul(times))),
                gpu: None,
            }
        }
        false => Resources { cpu: Some(spec.cpu), memory: Some(spec.memory), gpu: devices.gpu },
    };
    let mut env = env(&spec.env);
    env.splice(0..0, devices.env);
    if !is_local {
        // On a machine the agent says it, which knows the path when it has fetched the data.
        let paths = data.iter().map(|set| EnvVar {
            name: data::data_variable(&set.name),
            value: Value::literal(&set.mount),
        });
        env.splice(0..0, paths);
    }
    let system = spec.queued_by.filter(|_| !is_local).and_then(QueueSystem::asked_for);
    let handover =
        system.zip(spec.queue.clone()).map(|(system, queue)| Handover::new(system, queue));
    Ok(JobPlan {
        namespace: job.metadata.namespace.clone(),
        handover,
        notes: if is_local { kubernetes_only(job, target) } else { ephemeral(&spec) },
        framework: spec.framework,
        launcher: spec.launcher,
        workers,
        processes,
        image: spec.image,
        command,
        env,
        resources,
        data,
        checkpoint,
        progress: spec.progress.map(|progress| Progress {
            timeout: progress.timeout.0,
            log_pattern: progress.log_pattern,
        }),
        deadline: spec.deadline,
        retries: spec.retries,
        is_suspended: spec.is_suspended,
        ttl_after_finished: spec.ttl_after_finished,
        priority_class: spec.priority_class,
        placement: Placement {
            spot: spec.placement.spot,
            node_selector: spec.placement.node_selector,
            tolerations: spec.placement.tolerations,
            spread: spec.placement.spread,
            topology: spec.placement.topology,
        },
        volumes,
        secret,
        name,
    })
}

/// Not that of an earlier job of the name, which may be about to be deleted.
fn secret_name(job: &str, uid: Option<&str>) -> String {
    let part = uid.map(|uid| uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect());
    match part {
        Some(part) if !String::is_empty(&part) => format!("{job}-workers-{}", part.to_lowercase()),
        _ => format!("{job}-workers"),
    }
}

/// What pods need that processes do not.
fn runs_in_pods(job: &str, spec: &CompleteJob) -> Result<(), JobError> {
    if spec.image.is_none() {
        return Err(JobError::NeedsImage { job: job.to_owned() });
    }
    Ok(())
}

/// Checkpoints as they were written down, which is what one machine does.
fn kept(job: &str, spec: &CompleteCheckpoint) -> Result<Checkpoint, JobError> {
    if let Some(uri) = spec.uri.as_ref().filter(|uri| uri.starts_with("pvc:")) {
        let help = "on one machine, which has no claims; name a folder with `file:///FOLDER`";
        return Err(JobError::CheckpointUri { job: job.to_owned(), uri: uri.clone(), help });
    }
    Ok(Checkpoint {
        path: spec.path.clone(),
        uri: spec.uri.clone(),
        writers: spec.writers,
        credentials_secret: spec.credentials_secret.clone(),
        keep: spec.keep,
        interval: spec.interval,
        signal: spec.signal,
        grace: spec.grace,
    })
}

/// What a pod's end takes with it, so that nobody relies on it.
fn ephemeral(spec: &CompleteJob) -> Vec<String> {
    let is_lost = spec.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.uri.is_none());
    let note = "`spec.checkpoint` has no `uri`: checkpoints are on the disk of a pod and go with it, so that a worker that fails or is interrupted begins anew";
    is_lost.then(|| note.to_owned()).into_iter().collect()
}

/// All workers run at once, so what was written down of them must fit the machine together.
fn fits(job: &str, spec: &CompleteJob, cpu: Millicores, memory: Bytes) -> Result<(), JobError> {
    let (job, workers) = (job.to_owned(), spec.workers);
    let times = |amount: u64| amount.saturating_mul(workers.into());
    if let Some(asked) = spec.asked.cpu.map(|asked| Millicores(times(asked.0)))
        && asked > cpu
    {
        return Err(JobError::TooMuchCpu { job, workers, asked, there: cpu });
    }
    if let Some(asked) = spec.asked.memory.map(|asked| Bytes(times(asked.0)))
        && asked > memory
    {
        return Err(JobError::TooMuchMemory { job, workers, asked, there: memory });
    }
    Ok(())
}

fn env(declared: &[Declared]) -> Vec<EnvVar> {
    let value = |var: &Declared| match (&var.value_from, &var.value) {
        (Some(source), _) => Value::Secret {
            secret: source.secret_key_ref.name.clone(),
            key: source.secret_key_ref.key.clone(),
        },
        (None, text) => Value::Text(text.clone().unwrap_or_default()),
    };
    declared.iter().map(|var| EnvVar { name: var.name.clone(), value: value(var) }).collect()
}

const IGNORED: &str = "acts in Kubernetes only; this machine ignores it";

const CREDENTIALS: &str = "acts in Kubernetes only; here the store's credentials are variables of `spec.env` or of `trainyard up`";

/// Fields that this machine cannot act on, so that nobody waits for their effect.
fn kubernetes_only(job: &TrainingJob, target: &Target) -> Vec<String> {
    let gpu = job.spec.resources.as_ref().and_then(|resources| resources.gpu.as_ref());
    let has_gpus = matches!(target, Target::Local { gpus: 1.., .. });
    let written = [
        ("spec.image", job.spec.image.is_some(), IGNORED),
        (
            "spec.resources.gpu",
            gpu.is_some() && !has_gpus,
            "reserves nothing here: NVML tells of no GPU on this machine, and the program runs without",
        ),
        (
            "spec.resources.gpu",
            gpu.is_some_and(|gpu| gpu.count.is_none()) && has_gpus,
            "is a whole GPU here: nothing on one machine divides them",
        ),
        ("spec.placement", job.spec.placement.is_some(), IGNORED),
        ("spec.priorityClass", job.spec.priority_class.is_some(), IGNORED),
        ("spec.suspend", job.spec.suspend == Some(true), IGNORED),
        ("spec.ttlAfterFinished", job.spec.ttl_after_finished.is_some(), IGNORED),
        (
            "spec.checkpoint.credentialsSecret",
            job.spec.checkpoint.as_ref().is_some_and(|it| it.credentials_secret.is_some()),
            CREDENTIALS,
        ),
        (
            "spec.data[].credentialsSecret",
            job.spec.data.iter().flatten().any(|it| it.credentials_secret.is_some()),
            CREDENTIALS,
        ),
    ];
    written
        .into_iter()
        .filter(|(_, is_written, _)| *is_written)
        .map(|(field, _, what)| format!("`{field}` {what}"))
        .collect()
}

impl JobPlan {
    /// The workers of one attempt, where each of them is, and how they reach each other.
    pub fn gang(&self, attempt: u32, addresses: Vec<Address>, interface: Option<String>) -> Gang {
        Gang {
            job: self.name.clone(),
            attempt,
            framework: self.framework,
            launcher: self.launcher,
            processes: self.processes,
            workers: addresses,
            interface,
        }
    }

    /// The arguments of `trainyard` that start one worker, and the variables of its process: the
    /// gang, and what the manifest says.
    ///
    /// Without an index it is in the environment, as a Job of Kubernetes puts it there. `extra` are
    /// flags of the back end's own.
    pub fn agent(
        &self,
        gang: &Gang,
        index: Option<u32>,
        extra: Vec<Value>,
    ) -> (Vec<Value>, Vec<EnvVar>) {
        let mut args: Vec<Value> = ["agent", "run"].into_iter().map(Value::literal).collect();
        let mut flag = |texts: &[&str]| args.extend(texts.iter().map(Value::literal));
        if let Some(index) = index {
            flag(&["--index", &index.to_string()]);
        }
        if let Some(checkpoint) = &self.checkpoint {
            flag(&["--checkpoint-path", &checkpoint.path]);
            if let Some(uri) = &checkpoint.uri {
                flag(&["--checkpoint-uri", uri, "--checkpoint-keep", &checkpoint.keep.to_string()]);
            }
            flag(&["--checkpoint-signal", checkpoint.signal.as_str()]);
            flag(&["--grace", &Period(checkpoint.grace).to_string()]);
            if let Some(interval) = checkpoint.interval {
                flag(&["--checkpoint-interval", &Period(interval).to_string()]);
            }
        }
        if let Some(progress) = &self.progress {
            let timeout = Period(progress.timeout).to_string();
            flag(&["--progress-timeout", &timeout]);
            if let Some(pattern) = &progress.log_pattern {
                flag(&["--log-pattern", pattern]);
            }
        }
        args.extend(extra);
        args.push(Value::literal("--"));
        args.extend(self.command.iter().cloned());
        (args, self.agent_env(gang))
    }

    /// The variables of a worker's process: what the manifest says, and the gang.
    pub fn agent_env(&self, gang: &Gang) -> Vec<EnvVar> {
        let gang = EnvVar { name: GANG.to_owned(), value: Value::literal(gang.to_text()) };
        self.env.iter().cloned().chain([gang]).collect()
    }
}
