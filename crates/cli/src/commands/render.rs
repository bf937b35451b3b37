//! `trainyard render`.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use trainyard_api::ModelService;
use trainyard_api::manifest;
use trainyard_local::target::{read_manifests, resolve};
use trainyard_plan::kubernetes::{Object, Settings, Track, notes_without_operator, objects};
use trainyard_plan::{Facts, Target, compile};

use super::cluster_args::ClusterArgs;
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
    /// An API that the cluster has installed, such as monitoring.coreos.com/v1; may be repeated
    #[arg(long = "api", value_name = "GROUP/VERSION")]
    apis: Vec<String>,
}

impl Render {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let services = self.services()?;
        let (settings, gpu_pools) = self.cluster.into_parts();
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

    fn services(&self) -> miette::Result<Vec<ModelService>> {
        let (stdin, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
            self.filenames.iter().partition(|name| name.as_path() == Path::new("-"));
        let (mut services, mut notes, mut secrets) = (Vec::new(), Vec::new(), BTreeSet::new());
        if !stdin.is_empty() {
            let mut bytes = Vec::new();
            // One byte more than a manifest may have is enough to refuse it.
            let limit = u64::try_from(manifest::LARGEST).unwrap_or(u64::MAX).saturating_add(1);
            let read = std::io::stdin().take(limit).read_to_end(&mut bytes);
            read.into_diagnostic().wrap_err("cannot read standard input")?;
            let found = read_manifests("standard input", &bytes).map_err(problems::report)?;
            services.extend(found.services.into_iter().map(|located| located.value));
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
        if services.is_empty() {
            return Err(miette!("there is no ModelService to render"));
        }
        Ok(services)
    }
}
