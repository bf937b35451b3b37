//! Presets of runtimes: one file each, one line in [`preset`].

mod custom;
mod onnx;
mod tensorflow;
mod torchserve;
mod triton;
mod vllm;

use std::time::Duration;

use trainyard_api::defaults::Complete;
use trainyard_api::model_service::RuntimeName;
use trainyard_api::scalar::{Bytes, ModelUri};

use crate::compile::PlanError;
use crate::contract::{Contract, Framework, Knobs};
use crate::facts::{Facts, Target};
use crate::gpu::{self, Part};
use crate::workload::{
    Check, Drain, EnvVar, Metrics, Mount, Port, PortNumber, Probe, Probes, Resources, Value,
    Volume, VolumeSource, Workload,
};

/// What a preset works from.
pub(crate) struct Request<'a> {
    pub(crate) service: &'a str,
    /// The name that requests call the model by.
    pub(crate) model: &'a str,
    pub(crate) spec: &'a Complete,
    pub(crate) facts: &'a Facts,
}

/// One way of serving a model.
pub(crate) trait Runtime: Sync {
    /// What one replica is.
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError>;
}

/// The registry.
pub(crate) fn preset(name: RuntimeName) -> &'static dyn Runtime {
    match name {
        RuntimeName::Onnx => &onnx::Onnx,
        RuntimeName::Custom => &custom::Custom,
        RuntimeName::TensorFlow => &tensorflow::TensorFlow,
        RuntimeName::Triton => &triton::Triton,
        RuntimeName::Vllm => &vllm::Vllm,
        RuntimeName::TorchServe => &torchserve::TorchServe,
    }
}

/// Name of the volume with the model.
const MODEL: &str = "model";
/// Where a container sees it.
const MODEL_MOUNT: &str = "/mnt/models";
/// Where a container sees its configuration files.
const CONFIG_MOUNT: &str = "/etc/trainyard";
/// A model server finishes what is in flight; the slowest answers we plan for take half a minute.
const GRACE: Duration = Duration::from_secs(30);
/// EndpointSlices, kube-proxy and gateways follow within about 2 s; clusters with thousands of
/// endpoints need a few more.
const DRAIN: Duration = Duration::from_secs(10);

impl Request<'_> {
    fn is_local(&self) -> bool {
        matches!(self.facts.target, Target::Local { .. })
    }

    /// The model as a volume, and the path in it at which the model itself lies.
    fn model_volume(&self) -> Result<(Volume, String), PlanError> {
        let model = &self.spec.model;
        let refuse = |help| {
            let (service, uri) = (self.service.to_owned(), model.uri.to_string());
            Err(PlanError::NotInACluster { service, uri, help })
        };
        let mut inside = String::new();
        let source = match (&self.facts.model, &self.facts.target, &model.uri) {
            (Some(fetched), _, _) => VolumeSource::Host(fetched.path.clone()),
            (None, Target::Local { .. }, _) => {
                return Err(PlanError::NoModel {
                    service: self.service.to_owned(),
                    uri: model.uri.to_string(),
                });
            }
            (None, Target::Kubernetes { .. }, ModelUri::File(_)) => {
                return refuse(
                    "a file of one machine is on no node; copy it to a store (`s3://`, `gs://`, `az://`, `https://`) or a volume claim (`pvc://CLAIM/PATH`)",
                );
            }
            (None, Target::Kubernetes { .. }, ModelUri::Oci(_)) => {
                return refuse(
                    "images as volumes are not in Kubernetes 1.29; unpack the image to a store or a volume claim (`pvc://CLAIM/PATH`)",
                );
            }
            (None, Target::Kubernetes { .. }, ModelUri::Mlflow { .. }) => {
                return refuse(
                    "the registry is not asked yet; name the artifact's own place, such as `s3://BUCKET/PATH`",
                );
            }
            (None, Target::Kubernetes { .. }, ModelUri::Pvc { claim, path }) => {
                let path = path.trim_matches('/');
                // A file is mounted with its folder, so that it keeps its name.
                let (folder, file) = match path.rsplit_once('/') {
                    Some((folder, file)) if is_file(file) => (folder, file),
                    None if is_file(path) => ("", path),
                    _ => (path, ""),
                };
                inside = file.to_owned();
                VolumeSource::Claim { name: claim.clone(), path: folder.to_owned() }
            }
            (None, Target::Kubernetes { .. }, uri) => {
                inside = file_name(uri);
                VolumeSource::Model {
                    uri: uri.clone(),
                    sha256: model.sha256.clone(),
                    credentials_secret: model.credentials_secret.clone(),
                }
            }
        };
        let mount = Mount { path: MODEL_MOUNT.to_owned(), read_only: true };
        Ok((Volume { name: MODEL.to_owned(), source, mount }, inside))
    }

    fn resources(&self) -> Result<(Resources, Option<Part>), PlanError> {
        let spec = self.spec;
        let (gpu, part) = gpu::gpu(
            self.service,
            spec.asked.gpu.as_ref(),
            spec.placement.spot,
            &self.facts.target,
        )?;
        if self.is_local() {
            // A machine is its user's own: only what was asked for is a limit.
            return Ok((Resources { cpu: spec.asked.cpu, memory: spec.asked.memory, gpu }, part));
        }
        Ok((Resources { cpu: Some(spec.cpu), memory: Some(spec.memory), gpu }, part))
    }

    fn contract<'b>(&'b self, part: &'b Part) -> Contract<'b> {
        Contract { service: self.service, field: "spec.runtime", runtime: &self.spec.runtime, part }
    }

    /// The knobs by which a program keeps to its part of a GPU; none where it has no part.
    fn knobs(&self, part: Option<&Part>, framework: Framework) -> Result<Knobs, PlanError> {
        let Some(part) = part else { return Ok(Knobs::default()) };
        let contract = self.contract(part);
        let mut knobs = contract.knobs(framework)?;
        // Obeyed where MPS shares the GPU, and read by nobody elsewhere.
        knobs.env.extend(contract.knobs(Framework::Mps)?.env);
        Ok(knobs)
    }

    /// The preset's variables, and after them the user's.
    fn env(&self, preset: impl IntoIterator<Item = EnvVar>) -> Vec<EnvVar> {
        let mut env: Vec<EnvVar> = preset.into_iter().collect();
        env.extend(self.spec.runtime.env.iter().map(|var| EnvVar {
            name: var.name.clone(),
            value: match (&var.value_from, &var.value) {
                (Some(source), _) => Value::Secret {
                    secret: source.secret_key_ref.name.clone(),
                    key: source.secret_key_ref.key.clone(),
                },
                (None, text) => Value::Text(text.clone().unwrap_or_default()),
            },
        }));
        // The last one of a name wins, here as in a process: Kubernetes would take both and warn.
        let names: Vec<String> = env.iter().map(|var| var.name.clone()).collect();
        let mut at = 0_usize;
        env.retain(|var| {
            at = at.saturating_add(1);
            !names.iter().skip(at).any(|later| *later == var.name)
        });
        env
    }

    /// The user's arguments.
    fn args(&self) -> impl Iterator<Item = Value> {
        self.spec.runtime.args.iter().cloned().map(Value::Text)
    }

    /// Refuses to run an image where there is only this machine.
    fn needs_containers(&self, image: &str) -> Result<(), PlanError> {
        if !self.is_local() {
            return Ok(());
        }
        Err(PlanError::NeedsContainers {
            service: self.service.to_owned(),
            runtime: self.spec.runtime.name.as_str(),
            image: image.to_owned(),
        })
    }

    fn image(&self, preset: &str) -> String {
        self.spec.runtime.image.clone().unwrap_or_else(|| preset.to_owned())
    }

    /// How long a server may take to start: `base` for the program, and in a cluster the time to
    /// read a model that fills its memory from a slow network volume, 25 MiB/s.
    ///
    /// Too short a time restarts a server for ever; too long a one only delays the restart of one
    /// that hangs.
    fn start(&self, base: Duration) -> Duration {
        const BYTES_PER_SECOND: u64 = 25 << 20;
        if self.is_local() {
            return base;
        }
        base + Duration::from_secs(self.spec.memory.0 / BYTES_PER_SECOND)
    }

    /// `/dev/shm` for servers whose workers exchange tensors through it; a container has 64 MiB.
    ///
    /// What lies in it counts as the replica's memory, so it gets at most half.
    fn shared_memory(&self, most: Bytes) -> Volume {
        Volume {
            name: "shared-memory".to_owned(),
            source: VolumeSource::Memory { limit: most.min(Bytes(self.spec.memory.0 / 2)) },
            mount: Mount { path: "/dev/shm".to_owned(), read_only: false },
        }
    }

    /// What a foreign server runs with: it closes its port as soon as it is told to end.
    fn foreign(&self) -> Drain {
        if self.is_local() { Drain::None } else { Drain::BackEnd(DRAIN) }
    }

    /// Settings that the preset has no use for.
    fn unused_version(&self) -> Option<String> {
        let runtime = self.spec.runtime.name.as_str();
        let version = self.spec.model.version?;
        Some(format!(
            "`spec.model.version: {version}` has no effect on the runtime `{runtime}`: let `spec.model.uri` name the version's own folder"
        ))
    }
}

/// What a person should know of a service that a preset cannot do.
pub(crate) fn notes(service: &str, spec: &Complete, facts: &Facts) -> Vec<String> {
    let request = Request { service, model: "", spec, facts };
    let mut notes = Vec::new();
    match spec.runtime.name {
        RuntimeName::Onnx | RuntimeName::TensorFlow => {}
        RuntimeName::Triton | RuntimeName::Vllm | RuntimeName::TorchServe | RuntimeName::Custom => {
            notes.extend(request.unused_version());
        }
    }
    // What cannot be compiled was told as an error.
    let gpu = spec.asked.gpu.as_ref();
    let Ok((_, Some(part))) = gpu::gpu(service, gpu, spec.placement.spot, &facts.target) else {
        return notes;
    };
    let contract = request.contract(&part);
    let framework = match spec.runtime.name {
        RuntimeName::Triton => Framework::Triton,
        RuntimeName::TorchServe => Framework::Pytorch,
        RuntimeName::Custom => contract.detect().unwrap_or(Framework::Pytorch),
        RuntimeName::Onnx | RuntimeName::TensorFlow | RuntimeName::Vllm => return notes,
    };
    let elsewhere = contract.elsewhere(framework);
    if !elsewhere.is_empty() {
        notes.push(format!(
            "`spec.resources.gpu` shares a GPU, and `{}` cannot bound all that a model takes of it: {}",
            spec.runtime.name.as_str(),
            elsewhere.join("; ")
        ));
    }
    if spec.runtime.name == RuntimeName::Custom && custom::is_script(&spec.runtime.command) {
        let knobs = contract.knobs(framework).map(|knobs| knobs.args).unwrap_or_default();
        let words: Vec<&str> = knobs.iter().filter_map(Value::as_text).collect();
        if !words.is_empty() {
            notes.push(format!(
                "`spec.runtime.command` is a shell's script, to which nothing can be added: write `{}` in it to keep to {}",
                words.join(" "),
                part.said()
            ));
        }
    }
    notes
}

/// Whether a name's ending says that it is one file. Folders have dots in their names too
/// (`llama-3.1`), so only endings of model files count.
fn is_file(name: &str) -> bool {
    const ENDINGS: [&str; 18] = [
        "bin",
        "bst",
        "cbm",
        "gguf",
        "h5",
        "joblib",
        "json",
        "keras",
        "mar",
        "onnx",
        "pkl",
        "pmml",
        "pt",
        "pth",
        "safetensors",
        "tflite",
        "txt",
        "ubj",
    ];
    name.rsplit_once('.').is_some_and(|(stem, ending)| {
        !stem.is_empty() && ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
    })
}

/// The name under which a fetched model is one file; empty where it is a folder.
fn file_name(uri: &ModelUri) -> String {
    let key = match uri {
        ModelUri::S3 { key, .. } | ModelUri::Gs { key, .. } => key,
        ModelUri::Az { blob, .. } => blob,
        ModelUri::Https(url) => url.split(['?', '#']).next().unwrap_or_default(),
        ModelUri::File(_) | ModelUri::Pvc { .. } | ModelUri::Oci(_) | ModelUri::Mlflow { .. } => "",
    };
    let last = key.rsplit('/').next().unwrap_or_default();
    // A name with `%` would be decoded on its way; the folder is right for every server but one
    // that wants the very file.
    if is_file(last) && !last.contains('%') { last.to_owned() } else { String::new() }
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn var(name: &str, value: Value) -> EnvVar {
    EnvVar { name: name.to_owned(), value }
}

fn port(name: &str, number: PortNumber) -> Port {
    Port { name: name.to_owned(), number }
}

/// The model's folder or file itself.
fn model_path(inside: &str) -> Value {
    Value::Volume { name: MODEL.to_owned(), path: inside.to_owned() }
}

/// A file of the configuration volume.
fn config_file(name: &str) -> String {
    format!("{CONFIG_MOUNT}/{name}")
}

/// Files that the server reads at start.
fn config(files: impl IntoIterator<Item = (&'static str, String)>) -> Volume {
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    Volume {
        name: "config".to_owned(),
        source: VolumeSource::Config(files),
        mount: Mount { path: CONFIG_MOUNT.to_owned(), read_only: true },
    }
}

/// Where a server writes that has nothing of its own to write to: its image is read-only, and its
/// user has no home.
pub(crate) fn scratch(limit: Bytes) -> Volume {
    Volume {
        name: "scratch".to_owned(),
        source: VolumeSource::Scratch { limit },
        mount: Mount { path: SCRATCH.to_owned(), read_only: false },
    }
}

/// Where [`scratch`] is seen.
const SCRATCH: &str = "/tmp";

/// What programs ask for who look for their user: it has a number and no name. `getpass` of Python,
/// which PyTorch calls at import, would fail otherwise.
pub(crate) fn user() -> [EnvVar; 2] {
    [var("HOME", text(SCRATCH)), var("USER", text("trainyard"))]
}

fn metrics(port: &str, path: &str) -> Option<Metrics> {
    Some(Metrics { port: port.to_owned(), path: path.to_owned() })
}

/// Probes by HTTP: a model may load for `start`; ready is asked every second, so that traffic
/// starts soon after; life is asked patiently, since a busy server is not a dead one.
fn http_probes(ready: &str, live: &str, start: Duration) -> Probes {
    let check = |path: &str| Check::Http { port: "http".to_owned(), path: path.to_owned() };
    probes(check(ready), check(live), start)
}

/// Probes of a server with one address for its health, which also tells of a model that is being
/// changed or of a queue that is full: reasons to send nothing, not to restart.
fn one_http_probe(ready: &str, start: Duration) -> Probes {
    let port = || "http".to_owned();
    let ready = Check::Http { port: port(), path: ready.to_owned() };
    probes(ready, Check::Tcp { port: port() }, start)
}

fn probes(ready: Check, live: Check, start: Duration) -> Probes {
    const SECOND: Duration = Duration::from_secs(1);
    let failures = u32::try_from(start.as_secs()).unwrap_or(u32::MAX);
    Probes {
        startup: Probe { check: ready.clone(), period: SECOND, timeout: 5 * SECOND, failures },
        readiness: Probe { check: ready, period: SECOND, timeout: 5 * SECOND, failures: 3 },
        liveness: Probe { check: live, period: 10 * SECOND, timeout: 10 * SECOND, failures: 6 },
    }
}

#[test]
fn names_of_files() {
    let check = |uri: &str, expected: &str| {
        let uri = uri.parse().expect("a uri");
        assert_eq!(file_name(&uri), expected, "{uri}");
    };
    check("s3://models/iris/model.onnx", "model.onnx");
    check("s3://models/iris/MODEL.ONNX", "MODEL.ONNX");
    check("s3://models/llama-3.1", "");
    check("s3://models/iris", "");
    check("s3://models/a.onnx/", "");
    check("gs://models/m.joblib", "m.joblib");
    check("az://models/.json", "");
    check("https://example.com/a/m.bin?v=1.onnx", "m.bin");
    check("https://example.com/my%20model.bin", "");
}
