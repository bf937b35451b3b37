//! What `render` and `operator` have to know of a cluster.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use trainyard_api::scalar::{Bytes, Period};
use trainyard_operator::{GATEWAY, NAME_LABEL};
use trainyard_plan::kubernetes::{ParentGateway, Peer, Profile, PullPolicy, Settings};
use trainyard_plan::{GpuPools, PoolFacts};

/// The cluster that objects are written for
#[derive(Args, Clone)]
pub(crate) struct ClusterArgs {
    /// Whose cluster it is: labels and taints of GPU and spot nodes differ
    #[arg(long, value_enum, default_value_t)]
    profile: ProfileName,
    /// Trainyard's image, which serves ONNX models and fetches all others
    #[arg(long, env = "TRAINYARD_IMAGE", default_value_t = default_image())]
    image: String,
    /// When nodes ask the registry for images
    #[arg(long, value_enum, default_value_t, env = "TRAINYARD_IMAGE_PULL_POLICY")]
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
    /// A Gateway of the Gateway API that should route to the services
    #[arg(long, value_name = "NAMESPACE/NAME")]
    route: Option<Parent>,
    /// A port of the object store, beside 443; may be repeated
    #[arg(long = "store-port", value_name = "PORT")]
    store_ports: Vec<u16>,
    /// How long demand must stay low before an autoscaler takes a replica away, at most 1h [default:
    /// 5m, with a GPU 10m]
    #[arg(long, value_name = "TIME")]
    scale_down_after: Option<Period>,
    /// A pool of shared GPUs, such as `default=4,24Gi`: name, parts of each GPU, and its memory; may
    /// be repeated
    #[arg(long = "gpu-pool", value_name = "NAME=PARTS[,MEMORY]")]
    gpu_pools: Vec<Pool>,
}

impl ClusterArgs {
    /// How objects are written, and the GPU pools by name.
    pub(crate) fn into_parts(self) -> (Settings, GpuPools) {
        let peer = |namespace: String, labels: &[(&str, &str)]| Peer {
            namespace,
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        };
        let settings = Settings {
            image_pull_policy: match self.image_pull_policy {
                PullPolicyName::Always => PullPolicy::Always,
                PullPolicyName::IfNotPresent => PullPolicy::IfNotPresent,
            },
            profile: match self.profile {
                ProfileName::Generic => Profile::Generic,
                ProfileName::Eks => Profile::Eks,
                ProfileName::Gke => Profile::Gke,
                ProfileName::Aks => Profile::Aks,
            },
            kubernetes_minor: self.kubernetes_version.0,
            gateway: self.gateway.map(|namespace| peer(namespace, &[(NAME_LABEL, GATEWAY)])),
            monitoring: Some(peer(self.monitoring, &[])),
            route: self.route.map(|parent| parent.0),
            store_ports: self.store_ports,
            scale_down_after: self.scale_down_after.map(|period| period.0),
            ..Settings::new(self.image)
        };
        let pools = self.gpu_pools.into_iter();
        let pools =
            pools.map(|it| (it.name, Ok(PoolFacts::of_shares(it.units_per_gpu, it.memory))));
        (settings, pools.collect())
    }
}

/// The image of this very version.
pub(super) fn default_image() -> String {
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
pub(super) enum PullPolicyName {
    /// At each start; what is there is not pulled again
    #[default]
    #[value(name = "Always")]
    Always,
    /// Only where the image is not there
    #[value(name = "IfNotPresent")]
    IfNotPresent,
}

impl PullPolicyName {
    /// As Kubernetes has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
        }
    }
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
pub(super) struct Parent(ParentGateway);

impl From<Parent> for ParentGateway {
    fn from(parent: Parent) -> Self {
        parent.0
    }
}

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
