//! Presets of runtimes: one file each, one line in [`preset`].

mod custom;
mod onnx;
mod tensorflow;
mod torchserve;
mod triton;
mod vllm;

use std::time::Duration;

use trainyard_api::defaults::Complete;
use trainyard_api::model_service::{self, RuntimeName};
use trainyard_api::scalar::Bytes;

use crate::compile::PlanError;
use crate::facts::{Facts, Target};
use crate::workload::{
    Check, EnvVar, Gpu, GpuAmount, Mount, Port, PortNumber, Probe, Probes, Resources, Value,
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
/// A model server finishes what is in flight; the slowest answers we plan for take half a minute.
const GRACE: Duration = Duration::from_secs(30);

impl Request<'_> {
    fn is_local(&self) -> bool {
        matches!(self.facts.target, Target::Local { .. })
    }

    /// The model as a volume.
    fn model_volume(&self) -> Result<Volume, PlanError> {
        let model = &self.spec.model;
        let source = match (&self.facts.model, &self.facts.target) {
            (Some(fetched), _) => VolumeSource::Host(fetched.path.clone()),
            (None, Target::Kubernetes { .. }) => VolumeSource::Model {
                uri: model.uri.clone(),
                sha256: model.sha256.clone(),
                credentials_secret: model.credentials_secret.clone(),
            },
            (None, Target::Local { .. }) => {
                return Err(PlanError::NoModel {
                    service: self.service.to_owned(),
                    uri: model.uri.to_string(),
                });
            }
        };
        let mount = Mount { path: MODEL_MOUNT.to_owned(), read_only: true };
        Ok(Volume { name: MODEL.to_owned(), source, mount })
    }

    fn resources(&self) -> Resources {
        let spec = self.spec;
        let gpu = spec.asked.gpu.as_ref().and_then(gpu);
        if self.is_local() {
            // A machine is its user's own: only what was asked for is a limit.
            return Resources { cpu: spec.asked.cpu, memory: spec.asked.memory, gpu };
        }
        Resources { cpu: Some(spec.cpu), memory: Some(spec.memory), gpu }
    }

    /// The user's variables, after those of the preset.
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
}

fn gpu(gpu: &model_service::Gpu) -> Option<Gpu> {
    let amount = match (gpu.count, gpu.memory, gpu.share) {
        (Some(count), _, _) => GpuAmount::Count(count),
        (None, Some(memory), _) => GpuAmount::Memory(memory),
        (None, None, Some(share)) => GpuAmount::Share(share),
        // The API's rules do not let this through; asking for nothing gives nothing.
        (None, None, None) => return None,
    };
    Some(Gpu { amount, pool: gpu.pool.clone(), product: gpu.product.clone() })
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
fn model_path() -> Value {
    Value::Volume { name: MODEL.to_owned(), path: String::new() }
}

/// Probes by HTTP: a model may load for `start`; ready is asked every second, so that traffic
/// starts soon after; life is asked patiently, since a busy server is not a dead one.
fn http_probes(ready: &str, live: &str, start: Duration) -> Probes {
    let check = |path: &str| Check::Http { port: "http".to_owned(), path: path.to_owned() };
    probes(check(ready), check(live), start)
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

/// `/dev/shm` for servers whose workers exchange tensors through it; a container has 64 MiB.
fn shared_memory(limit: Bytes) -> Volume {
    Volume {
        name: "shared-memory".to_owned(),
        source: VolumeSource::Memory { limit },
        mount: Mount { path: "/dev/shm".to_owned(), read_only: false },
    }
}
