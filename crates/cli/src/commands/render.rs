//! `trainyard render`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use trainyard_api::manifest;
use trainyard_api::{GpuPool, GpuPoolSpec, ModelService, Queue, TrainingJob};
use trainyard_local::target::{read_manifests, resolve};
use trainyard_plan::kubernetes::{
    JobRun, Object, Settings, Track, job_notes_without_operator, job_objects, node_marks,
    notes_without_operator, objects, pool_objects, quota_names,
};
use trainyard_plan::{Facts, PoolSeen, Target, compile, compile_job, pool_facts};

use super::cluster_args::ClusterArgs;
use super::operator::PluginPlace;
use super::up::problems;
use crate::failure::failure;
use crate::print::print;
use crate::yaml::documents;

/// Print the plain Kubernetes objects that manifests stand for; nothing of Trainyard need be
/// installed where they are applied
#[derive(Args)]
pub(crate) struct Render {
    /// Manifests, or folders of them; `-` reads standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filenames: Vec<PathBuf>,
    /// Namespace of services that name none [default: left to kubectl]
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The ConfigMap that NVIDIA's device plugin reads [default: trainyard/trainyard-gpus]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAMESPACE/NAME")]
    device_plugin_config: PluginPlace,
    /// An API that the cluster has installed, such as monitoring.coreos.com/v1; may be repeated
    #[arg(long = "api", value_name = "GROUP/VERSION")]
    apis: Vec<String>,
}

impl Render {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let Declared { services, jobs, pools } = self.declared()?;
        let (settings, mut gpu_pools) = self.cluster.into_parts();
        // Kubernetes 1.34 is the first with the API that is no draft.
        let seen = PoolSeen { has_dra: settings.kubernetes_minor >= 34, memory: None };
        for (name, pool) in &pools {
            gpu_pools.insert(name.clone(), pool_facts(name, pool, seen));
        }
        let settings = Settings {
            namespace: self.namespace,
            apis: self.apis.into_iter().collect(),
            ..settings
        };
        let target = Target::Kubernetes { image: settings.image.clone(), gpu_pools };
        let facts = Facts { target, model: None };
        let has_operator = settings.gateway.is_some();
        let mut all: Vec<Object> = Vec::new();
        let mut problems = Vec::new();
        problems.extend(gpu_pools_failures(&pools, seen));
        let config = self.device_plugin_config.of("trainyard");
        all.extend(pool_objects(&pools, &config));
        for (name, pool) in &pools {
            for command in node_marks(name, pool).commands(&pool.node_selector) {
                eprintln!("note: the nodes of the pool `{name}` need marks: {command}");
            }
            let quotas = quota_names(name, pool).join("`, `");
            eprintln!("note: a ResourceQuota counts what the pool `{name}` has as `{quotas}`");
        }
        for service in &services {
            let plan = match compile(service, &facts) {
                Ok(plan) => plan,
                Err(error) => {
                    problems.push(failure(error));
                    continue;
                }
            };
            let without = if has_operator { Vec::new() } else { notes_without_operator(&plan) };
            for note in plan.notes.iter().chain(&without) {
                eprintln!("note: {note}");
            }
            match objects(&plan, Track::Stable { replicas: None }, &settings) {
                Ok(objects) => all.extend(objects),
                Err(error) => problems.push(failure(error)),
            }
        }
        for job in &jobs {
            let plan = match compile_job(job, &facts.target) {
                Ok(plan) => plan,
                Err(error) => {
                    problems.push(failure(error));
                    continue;
                }
            };
            for note in plan.notes.iter().chain(&job_notes_without_operator(&plan)) {
                eprintln!("note: {note}");
            }
            match job_objects(&plan, JobRun::Alone, &settings) {
                Ok(objects) => all.extend(objects),
                Err(error) => problems.push(failure(error)),
            }
        }
        if let Some(last) = problems.pop() {
            // Half of what was asked for, applied, would be worse than nothing.
            for problem in problems {
                eprintln!("{problem:?}");
            }
            return Err(last);
        }
        print(documents(&all)?.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    fn declared(&self) -> miette::Result<Declared> {
        let (stdin, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
            self.filenames.iter().partition(|name| name.as_path() == Path::new("-"));
        let (mut services, mut notes, mut secrets) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut pools: Vec<GpuPool> = Vec::new();
        let mut jobs: Vec<TrainingJob> = Vec::new();
        let (mut found_queues, mut has_queues): (Vec<Queue>, bool) = (Vec::new(), false);
        if !stdin.is_empty() {
            let mut bytes = Vec::new();
            // One byte more than a manifest may have is enough to refuse it.
            let limit = u64::try_from(manifest::LARGEST).unwrap_or(u64::MAX).saturating_add(1);
            let read = std::io::stdin().take(limit).read_to_end(&mut bytes);
            read.into_diagnostic().wrap_err("cannot read standard input")?;
            let found = read_manifests("standard input", &bytes).map_err(problems::report)?;
            services.extend(found.services.into_iter().map(|located| located.value));
            jobs.extend(found.jobs.into_iter().map(|located| located.value));
            pools.extend(found.gpu_pools.into_iter().map(|located| located.value));
            found_queues.extend(found.queues.into_iter().map(|located| located.value));
            notes.extend(found.notes);
            secrets.extend(found.secrets.into_keys());
        }
        let files: Vec<PathBuf> = files.into_iter().cloned().collect();
        let resolved = resolve(&files).map_err(problems::report)?;
        notes.extend(resolved.notes);
        secrets.extend(resolved.secrets.into_keys());
        for note in notes {
            eprintln!("note: {note}");
        }
        for secret in secrets {
            eprintln!("note: the Secret `{secret}` is not printed; apply it beside what is");
        }
        services.extend(resolved.services.into_iter().map(|declared| declared.manifest));
        jobs.extend(resolved.jobs.into_iter().map(|declared| declared.manifest));
        pools.extend(resolved.gpu_pools);
        let queues =
            found_queues.into_iter().chain(resolved.queues.into_iter().map(|queue| queue.manifest));
        for queue in queues.filter_map(|queue| queue.metadata.name) {
            eprintln!(
                "note: the Queue `{queue}` is not printed: an operator acts on it; apply it as it is"
            );
            has_queues = true;
        }
        if services.is_empty() && jobs.is_empty() && pools.is_empty() && !has_queues {
            return Err(miette!("there is no ModelService, TrainingJob or GpuPool to render"));
        }
        let pools = pools.into_iter();
        let pools = pools.map(|it| (it.metadata.name.unwrap_or_default(), it.spec));
        Ok(Declared { services, jobs, pools: pools.collect() })
    }
}

/// What the files hold.
struct Declared {
    services: Vec<ModelService>,
    jobs: Vec<TrainingJob>,
    pools: BTreeMap<String, GpuPoolSpec>,
}

/// Pools that cannot be used, whether a service uses them or not.
fn gpu_pools_failures(
    pools: &BTreeMap<String, GpuPoolSpec>,
    seen: PoolSeen,
) -> Vec<miette::Report> {
    let failed = pools.iter().filter_map(|(name, pool)| pool_facts(name, pool, seen).err());
    failed.map(failure).collect()
}
