//! The compiler of jobs.

use std::time::Duration;

use serde::Serialize;
use trainyard_api::TrainingJob;
use trainyard_api::defaults::{CompleteJob, complete_job};
use trainyard_api::model_service::EnvVar as Declared;
use trainyard_api::scalar::{Bytes, Millicores};
use trainyard_api::training_job::{CheckpointSignal, Framework, Launcher, wrong_log_pattern};

use super::gang::{self, Address, GANG, Gang};
use super::mpi;
use crate::facts::Target;
use crate::workload::{EnvVar, Resources, Value};

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
    pub checkpoint: Option<Checkpoint>,
    pub progress: Option<Progress>,
    pub deadline: Option<Duration>,
    pub retries: u32,
    /// What the person should know though it is no error.
    pub notes: Vec<String>,
}

/// How a program is asked for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// Below the manifest's folder, if it is not absolute.
    pub path: String,
    /// The store of whole checkpoints; none if they stay where they are.
    pub uri: Option<String>,
    /// That it keeps.
    pub keep: u32,
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
        "`spec.env` of `{job}` sets `{name}`, by which its processes find each other; remove it: it follows from `workers.count` and `processesPerWorker`"
    )]
    ReservedVariable { job: String, name: String },
    #[error("`spec.progress.logPattern` of `{job}` is no regular expression: {why}")]
    LogPattern { job: String, why: String },
    #[error(
        "a TrainingJob runs on this machine only for now (`trainyard up`), and `{job}` would need the operator of a cluster, which does not know jobs yet"
    )]
    NotInACluster { job: String },
}

/// Compiles one job.
///
/// Deterministic. The resource should have been validated; what was not is still no panic.
pub fn compile_job(job: &TrainingJob, target: &Target) -> Result<JobPlan, JobError> {
    let name = job.metadata.name.clone().ok_or(JobError::NoName)?;
    let spec = complete_job(&job.spec);
    let Target::Local { cpu, memory } = target else {
        return Err(JobError::NotInACluster { job: name });
    };
    fits(&name, &spec, *cpu, *memory)?;
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
    if spec.framework == Framework::Mpi {
        // One machine is one host to MPI, however many workers it stands for.
        processes = processes.saturating_mul(workers);
        workers = 1;
        command = mpi::command(command, processes);
    }
    Ok(JobPlan {
        namespace: job.metadata.namespace.clone(),
        notes: kubernetes_only(job),
        framework: spec.framework,
        launcher: spec.launcher,
        workers,
        processes,
        image: spec.image,
        command,
        env: env(&spec.env),
        resources: Resources { cpu: spec.asked.cpu, memory: spec.asked.memory, gpu: None },
        checkpoint: spec.checkpoint.map(|checkpoint| Checkpoint {
            path: checkpoint.path,
            uri: checkpoint.uri,
            keep: checkpoint.keep,
            signal: checkpoint.signal,
            grace: checkpoint.grace,
        }),
        progress: spec.progress.map(|progress| Progress {
            timeout: progress.timeout.0,
            log_pattern: progress.log_pattern,
        }),
        deadline: spec.deadline,
        retries: spec.retries,
        name,
    })
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

/// Fields that this machine cannot act on, so that nobody waits for their effect.
fn kubernetes_only(job: &TrainingJob) -> Vec<String> {
    let gpu = job.spec.resources.as_ref().is_some_and(|resources| resources.gpu.is_some());
    let written = [
        (
            "spec.image",
            job.spec.image.is_some(),
            "acts in Kubernetes only; this machine ignores it",
        ),
        (
            "spec.resources.gpu",
            gpu,
            "reserves nothing here: the processes see every GPU of this machine",
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
    /// `extra` are flags of the back end's own.
    pub fn agent(&self, gang: &Gang, index: u32, extra: Vec<String>) -> (Vec<Value>, Vec<EnvVar>) {
        let mut args: Vec<Value> =
            ["agent", "run", "--index"].into_iter().map(Value::literal).collect();
        let mut flag = |texts: &[&str]| args.extend(texts.iter().map(Value::literal));
        flag(&[&index.to_string()]);
        if let Some(checkpoint) = &self.checkpoint {
            flag(&["--checkpoint-path", &checkpoint.path]);
            if let Some(uri) = &checkpoint.uri {
                flag(&["--checkpoint-uri", uri, "--checkpoint-keep", &checkpoint.keep.to_string()]);
            }
            flag(&["--checkpoint-signal", checkpoint.signal.as_str()]);
            flag(&["--grace", &trainyard_api::scalar::Period(checkpoint.grace).to_string()]);
        }
        if let Some(progress) = &self.progress {
            let timeout = trainyard_api::scalar::Period(progress.timeout).to_string();
            flag(&["--progress-timeout", &timeout]);
            if let Some(pattern) = &progress.log_pattern {
                flag(&["--log-pattern", pattern]);
            }
        }
        args.extend(extra.iter().map(Value::literal));
        args.push(Value::literal("--"));
        args.extend(self.command.iter().cloned());
        let gang = EnvVar { name: GANG.to_owned(), value: Value::literal(gang.to_text()) };
        (args, self.env.iter().cloned().chain([gang]).collect())
    }
}
