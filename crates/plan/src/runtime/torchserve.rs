//! TorchServe. It is no longer maintained; the preset is there for those who leave it step by step.

use std::time::Duration;

use trainyard_api::scalar::Bytes;

use super::{GRACE, MODEL_MOUNT, Request, Runtime, http_probes, port, shared_memory, text};
use crate::compile::PlanError;
use crate::workload::{PortNumber, Program, Workload};

pub(super) struct TorchServe;

const IMAGE: &str = "docker.io/pytorch/torchserve:0.12.0-cpu";
const IMAGE_GPU: &str = "docker.io/pytorch/torchserve:0.12.0-gpu";
const START: Duration = Duration::from_secs(600);
/// PyTorch's workers exchange tensors through it.
const SHARED_MEMORY: Bytes = Bytes(1 << 30);

impl Runtime for TorchServe {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let image = request.image(if request.spec.asked.gpu.is_some() { IMAGE_GPU } else { IMAGE });
        request.needs_containers(&image)?;
        let mut args = vec![
            text("--start"),
            text("--foreground"),
            text("--ncs"),
            text("--model-store"),
            text(MODEL_MOUNT),
            text("--models"),
            text("all"),
            // Since 0.11.1 every call needs a token from a file in the container; ours are checked
            // at the gateway.
            text("--disable-token-auth"),
        ];
        args.extend(request.args());
        Ok(Workload {
            program: Program::Image { image, command: vec![text("torchserve")] },
            args,
            env: request.env([]),
            ports: vec![
                port("http", PortNumber::Fixed(8080)),
                port("management", PortNumber::Fixed(8081)),
                port("metrics", PortNumber::Fixed(8082)),
            ],
            probes: http_probes("/ping", "/ping", START),
            resources: request.resources(),
            volumes: vec![request.model_volume()?, shared_memory(SHARED_MEMORY)],
            grace: GRACE,
        })
    }
}
