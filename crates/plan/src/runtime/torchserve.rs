//! TorchServe. It is no longer maintained; the preset is there for those who leave it step by step.

use std::time::Duration;

use trainyard_api::scalar::Bytes;

use super::{
    GRACE, MODEL_MOUNT, Request, Runtime, SCRATCH, config, config_file, metrics, one_http_probe,
    port, scratch, text, user, var,
};
use crate::compile::PlanError;
use crate::contract::Framework;
use crate::workload::{PortNumber, Program, Workload};

pub(super) struct TorchServe;

const IMAGE: &str = "docker.io/pytorch/torchserve:0.12.0-cpu";
const IMAGE_GPU: &str = "docker.io/pytorch/torchserve:0.12.0-gpu";
const START: Duration = Duration::from_secs(600);
/// PyTorch's workers exchange tensors through it.
const SHARED_MEMORY: Bytes = Bytes(1 << 30);
/// Archives are unpacked there.
const UNPACKED: Bytes = Bytes(20 << 30);
const CONFIG_FILE: &str = "config.properties";

impl Runtime for TorchServe {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let image = request.image(if request.spec.asked.gpu.is_some() { IMAGE_GPU } else { IMAGE });
        request.needs_containers(&image)?;
        let (resources, part) = request.resources()?;
        let (model, _) = request.model_volume()?;
        let mut args = vec![
            text("--start"),
            text("--foreground"),
            text("--ncs"),
            text("--ts-config"),
            text(config_file(CONFIG_FILE)),
            text("--model-store"),
            text(MODEL_MOUNT),
            text("--models"),
            text("all"),
            // Since 0.11.1 every call needs a token from a file in the container; ours are checked
            // at the gateway.
            text("--disable-token-auth"),
        ];
        let knobs = request.knobs(part.as_ref(), Framework::Pytorch)?;
        args.extend(request.args());
        let mut env = Vec::from(user());
        env.extend([
            var("TEMP", text(SCRATCH)),
            var("LOG_LOCATION", text(format!("{SCRATCH}/logs"))),
            var("METRICS_LOCATION", text(format!("{SCRATCH}/metrics"))),
        ]);
        Ok(Workload {
            program: Program::Image { image, command: vec![text("torchserve")] },
            args,
            env: request.env(env.into_iter().chain(knobs.env)),
            // The image's own belongs to a user that is not ours.
            working_dir: Some(SCRATCH.to_owned()),
            ports: vec![
                port("http", PortNumber::Fixed(8080)),
                port("grpc", PortNumber::Fixed(7070)),
                port("metrics", PortNumber::Fixed(8082)),
            ],
            grpc: Some("grpc".to_owned()),
            metrics: metrics("metrics", "/metrics"),
            probes: one_http_probe("/ping", request.start(START)),
            resources,
            volumes: vec![
                model,
                config([(CONFIG_FILE, properties(request.spec.batching.max_queue))]),
                scratch(UNPACKED),
                request.shared_memory(SHARED_MEMORY),
            ],
            drain: request.foreign(),
            grace: GRACE,
        })
    }
}

/// Without a file of its own it listens on loopback only. Management stays there: a model that
/// changes while a revision serves would be none of the revision's.
fn properties(max_queue: Option<u32>) -> String {
    let queue = max_queue.map(|queue| format!("job_queue_size={queue}\n")).unwrap_or_default();
    format!(
        "inference_address=http://0.0.0.0:8080\nmanagement_address=http://127.0.0.1:8081\n\
         metrics_address=http://0.0.0.0:8082\ngrpc_inference_address=0.0.0.0\n\
         grpc_inference_port=7070\nmetrics_mode=prometheus\n{queue}"
    )
}
