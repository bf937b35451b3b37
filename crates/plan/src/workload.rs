//! What one replica is: a program, its settings, its ports, probes, resources and volumes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use trainyard_api::model_service::Toleration;
use trainyard_api::scalar::{Bytes, Millicores, ModelUri, Share};

/// A set of equal replicas. How many of them there are is [`Scaling`](crate::Scaling)'s to say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Workload {
    pub program: Program,
    /// Arguments after the program's own.
    pub args: Vec<Value>,
    /// Later entries may use earlier ones as `$(NAME)`.
    pub env: Vec<EnvVar>,
    /// Where it runs; none is the image's, or the manifest's folder.
    pub working_dir: Option<String>,
    pub ports: Vec<Port>,
    /// Name of the port that takes gRPC; none where the program speaks none.
    pub grpc: Option<String>,
    /// Where Prometheus reads; none where the program has no metrics that we know of.
    pub metrics: Option<Metrics>,
    pub probes: Probes,
    pub resources: Resources,
    pub volumes: Vec<Volume>,
    /// Who keeps the replica answering while senders still learn that it goes.
    pub drain: Drain,
    /// How long a replica may take to finish its requests after it was told to stop.
    pub grace: Duration,
}

impl Workload {
    /// The port of that name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// This very binary: locally the running executable, in a cluster Trainyard's image.
    Trainyard { image: Option<String> },
    /// A command of the user: locally a process, in a cluster run in `image`.
    Command { image: Option<String>, command: Vec<Value> },
    /// A foreign server's image; needs a container engine. `command` replaces its entry point.
    Image { image: String, command: Vec<Value> },
}

/// One argument or the value of one environment variable.
///
/// A back end turns each into text; a [`Value::Text`] it passes through [`expand`](crate::expand).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Value {
    /// Text, in which `$(NAME)` stands for an environment variable of the workload and `$$` for a
    /// dollar sign, as in a Kubernetes container.
    Text(String),
    /// The number of the port of that name.
    Port(String),
    /// A file, unique to the replica, to which the program writes the `HOST:PORT` that it listens
    /// on. Local only.
    AddressFile,
    /// A path in a volume: where the volume is mounted, and `path` below it (empty for the root).
    Volume { name: String, path: String },
    /// A key of a secret. Never logged, never in an event.
    Secret { secret: String, key: String },
}

impl Value {
    /// Text with no `$(NAME)` in it: each dollar sign is kept as it is.
    pub fn literal(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().replace('$', "$$"))
    }

    /// The text, of one that is a text.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvVar {
    pub name: String,
    pub value: Value,
}

/// A port that a replica listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// `http` carries requests; others, such as `metrics`, are a runtime's own.
    pub name: String,
    pub number: PortNumber,
}

/// Where a program shows its metrics, in Prometheus' text format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Name of the port.
    pub port: String,
    pub path: String,
}

/// Between the decision to end a replica and the last sender's knowing, requests still come. Somebody
/// has to keep the replica answering for that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Drain {
    /// Nobody: the back end takes a replica out of the gateway's table before it ends it. Local.
    None,
    /// The program goes on for so long after it was told to end.
    Program(Duration),
    /// The program stops accepting at once, so the back end must tell it so much later.
    BackEnd(Duration),
}

impl Drain {
    /// How long it lasts.
    pub fn length(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Program(length) | Self::BackEnd(length) => length,
        }
    }
}

/// How a port gets its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PortNumber {
    /// This number, which a pod has to itself.
    Fixed(u16),
    /// The back end chooses a free one before it starts the replica.
    Assigned,
    /// The replica chooses a free one and writes it to its [`Value::AddressFile`].
    Reported,
}

/// How to find out about a replica's health. The meanings are Kubernetes'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probes {
    /// Until it passes once, the others do not run; when it fails for good the replica restarts.
    pub startup: Probe,
    /// Only while it passes does the replica get requests.
    pub readiness: Probe,
    /// When it fails the replica restarts.
    pub liveness: Probe,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub check: Check,
    pub period: Duration,
    pub timeout: Duration,
    /// So many failures in a row count as failed.
    pub failures: u32,
}

/// What a probe does; success is a status from 200 to 399, or a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    Http { port: String, path: String },
    Tcp { port: String },
}

/// What one replica may use; none is no limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resources {
    pub cpu: Option<Millicores>,
    pub memory: Option<Bytes>,
    pub gpu: Option<Gpu>,
}

/// The GPU, or the part of one, that a replica needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    pub amount: GpuAmount,
    /// A `GpuPool`; the default pool if there is none.
    pub pool: Option<String>,
    /// The value of `nvidia.com/gpu.product` that a node must have.
    pub product: Option<String>,
    /// What to ask a cluster for; none on a machine, which gives what it has.
    pub device: Option<Device>,
}

/// Devices as a cluster counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    #[serde(flatten)]
    pub request: DeviceRequest,
    /// Labels of the pool's nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of the pool's nodes beyond those that every GPU node has.
    pub tolerations: Vec<Toleration>,
}

/// How a cluster is asked for devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DeviceRequest {
    /// So many units of an extended resource, such as `nvidia.com/gpu`.
    Resource { resource: String, units: u32 },
    /// A claim for so many devices of a DeviceClass, each with at least this memory.
    Claim { device_class: String, count: u32, memory: Option<Bytes> },
}

impl DeviceRequest {
    /// Whole GPUs, parts of one or instances, as their pool has them.
    pub fn units(&self) -> u32 {
        match self {
            Self::Resource { units, .. } => *units,
            Self::Claim { count, .. } => *count,
        }
    }
}

/// How much of a GPU: exactly one way of saying it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GpuAmount {
    /// Whole GPUs.
    Count(u32),
    /// Memory of one shared GPU.
    Memory(Bytes),
    /// A share of one GPU.
    Share(Share),
}

/// A place for files, referred to by [`Value::Volume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
    pub mount: Mount,
}

/// What a volume holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// A file or folder of this machine, such as a fetched model.
    Host(std::path::PathBuf),
    /// A model that the back end has to fetch before the replica starts.
    Model { uri: ModelUri, sha256: Option<String>, credentials_secret: Option<String> },
    /// An existing claim of the namespace, and the path in it (empty for its root).
    Claim { name: String, path: String },
    /// Files with this content, by name.
    Config(BTreeMap<String, String>),
    /// Empty at each start of a replica, on disk.
    Scratch { limit: Bytes },
    /// Empty at each start of a replica, in memory.
    Memory { limit: Bytes },
}

/// Where a container sees a volume. A local process sees the source itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    pub path: String,
    pub read_only: bool,
}
