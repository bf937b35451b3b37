//! `trainyard render`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use miette::{IntoDiagnostic, WrapErr, miette};
use trainyard_api::ModelService;
use trainyard_api::manifest;
use trainyard_api::scalar::Bytes;
use trainyard_local::target::{TargetError, resolve};
use trainyard_plan::kubernetes::{
    Object, ParentGateway, Peer, Profile, PullPolicy, Settings, Track, notes_without_operator,
    objects,
};
use trainyard_plan::{Facts, GpuPool, Target, compile};

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
    /// Whose cluster it is: labels and taints of GPU and spot nodes differ
    #[arg(long, value_enum, default_value_t)]
    profile: ProfileName,
    /// Namespace of services that name none [default: left to kubectl]
    #[arg(short, long)]
    namespace: Option<String>,
    /// Trainyard's image, which serves ONNX models and fetches all others
    #[arg(long, env = "TRAINYARD_IMAGE", default_value_t = default_image())]
    image: String,
    /// When nodes ask the registry for images
    #[arg(long, value_enum, default_value_t)]
    image_pull_policy: PullPolicyName,
    /// The oldest Kubernetes that the objects are for
    #[arg(long, default_value = "1.29", value_name = "1.N")]
    kubernetes_version: KubernetesVersion,
    /// Namespace of Trainyard's gateway; without one, the service's namespace may call it directly
    #[arg(long, value_name = "NAMESPACE")]
    gateway: Option<String>,
    /// Namespace of what reads metrics
    #[arg(long, default_value = "monitoring", value_name = "NAMESPACE")]
    monitoring: String,
    /// An API that the cluster has installed, such as monitoring.coreos.com/v1; may be repeated
    #[arg(long = "api", value_name = "GROUP/VERSION")]
    apis: Vec<String>,
    /// A Gateway of the Gateway API that should route to the services
    #[arg(long, value_name = "NAMESPACE/NAME")]
    route: Option<Parent>,
    /// A port of the object store, beside 443; may be repeated
    #[arg(long = "store-port", value_name = "PORT")]
    store_ports: Vec<u16>,
    /// A pool of shared GPUs, such as `default=4,24Gi`: name, parts of each GPU, and its memory; may
    /// be repeated
    #[arg(long = "gpu-pool", value_name = "NAME=PARTS[,MEMORY]")]
    gpu_pools: Vec<Pool>,
}

/// The image of this very version.
fn default_image() -> String {
    concat!("ghcr.io/trainyard-dev/trainyard:", env!("CARGO_PKG_VERSION")).to_owned()
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum ProfileName {
    #[default]
    Generic,
    Eks,
    Gke,
    Aks,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum PullPolicyName {
    /// At each start; what is there is not pulled again
    #[default]
    #[value(name = "Always")]
    Always,
    /// Only where the image is not there
    #[value(name = "IfNotPresent")]
    IfNotPresent,
}

/// The N of `1.N`.
#[derive(Clone, Copy)]
struct KubernetesVersion(u32);

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minor = text.trim_start_matches('v').strip_prefix("1.");
        let minor = minor.and_then(|rest| rest.split('.').next()?.parse().ok());
        match minor {
            Some(minor @ 29..) => Ok(Self(minor)),
            Some(_) => Err("Trainyard works on Kubernetes 1.29 and newer".to_owned()),
            None => Err("expected a version such as 1.34".to_owned()),
        }
    }
}

/// The two parts of `NAMESPACE/NAME`.
#[derive(Clone)]
struct Parent(ParentGateway);

impl FromStr for Parent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                Ok(Self(ParentGateway { namespace, name }))
            }
            _ => Err("expected NAMESPACE/NAME".to_owned()),
        }
    }
}

#[derive(Clone)]
struct Pool {
    name: String,
    units_per_gpu: u32,
    memory: Option<Bytes>,
}

impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("expected NAME=PARTS[,MEMORY]")?;
        let (parts, memory) = match rest.split_once(',') {
            Some((parts, memory)) => (parts, Some(memory)),
            None => (rest, None),
        };
        let parts = parts.parse().ok().filter(|parts| (1..=1024).contains(parts));
        Ok(Self {
            name: name.to_owned(),
            units_per_gpu: parts.ok_or("the parts of a GPU are a number from 1 to 1024")?,
            memory: memory
                .map(|memory| memory.parse().map_err(|_| "the memory is a size such as 24Gi"))
                .transpose()?,
        })
    }
}

impl Pool {
    /// The pool as NVIDIA's device plugin announces it with `renameByDefault`.
    fn facts(self) -> (String, GpuPool) {
        let resource =
            if self.units_per_gpu > 1 { "nvidia.com/gpu.shared" } else { "nvidia.com/gpu" };
        let pool = GpuPool {
            resource: resource.to_owned(),
            units_per_gpu: self.units_per_gpu,
            memory: self.memory,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        };
        (self.name, pool)
    }
}

impl Render {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let services = self.services()?;
        let settings = self.settings();
        let target = Target::Kubernetes {
            image: self.image,
            gpu_pools: self.gpu_pools.into_iter().map(Pool::facts).collect(),
        };
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
        let mut services = Vec::new();
        if !stdin.is_empty() {
            let mut bytes = Vec::new();
            // One byte more than a manifest may have is enough to refuse it.
            let limit = u64::try_from(manifest::LARGEST).unwrap_or(u64::MAX).saturating_add(1);
            let read = std::io::stdin().take(limit).read_to_end(&mut bytes);
            read.into_diagnostic().wrap_err("cannot read standard input")?;
            let found = manifest::read_bytes("standard input", &bytes)
                .map_err(|errors| problems::report(vec![TargetError::from(errors)]))?;
            services.extend(found.into_iter().map(|located| located.value));
        }
        let files: Vec<PathBuf> = files.into_iter().cloned().collect();
        let resolved = resolve(&files).map_err(problems::report)?;
        for note in &resolved.notes {
            eprintln!("note: {note}");
        }
        services.extend(resolved.services.into_iter().map(|declared| declared.manifest));
        if services.is_empty() {
            return Err(miette!("there is no ModelService to render"));
        }
        Ok(services)
    }

    fn settings(&self) -> Settings {
        let peer = |namespace: &String, labels: &[(&str, &str)]| Peer {
            namespace: namespace.clone(),
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        };
        Settings {
            image_pull_policy: match self.image_pull_policy {
                PullPolicyName::Always => PullPolicy::Always,
                PullPolicyName::IfNotPresent => PullPolicy::IfNotPresent,
            },
            namespace: self.namespace.clone(),
            profile: match self.profile {
                ProfileName::Generic => Profile::Generic,
                ProfileName::Eks => Profile::Eks,
                ProfileName::Gke => Profile::Gke,
                ProfileName::Aks => Profile::Aks,
            },
            kubernetes_minor: self.kubernetes_version.0,
            gateway: self.gateway.as_ref().map(|namespace| {
                peer(namespace, &[("app.kubernetes.io/name", "trainyard-gateway")])
            }),
            monitoring: Some(peer(&self.monitoring, &[])),
            apis: self.apis.iter().cloned().collect(),
            route: self.route.clone().map(|parent| parent.0),
            store_ports: self.store_ports.clone(),
            ..Settings::new(&self.image)
        }
    }
}
