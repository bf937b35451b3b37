//! NVIDIA's Triton Inference Server.

use std::time::Duration;

use trainyard_api::scalar::Bytes;

use super::{
    GRACE, MODEL_MOUNT, Request, Runtime, http_probes, metrics, port, scratch, text, user,
};
use crate::compile::PlanError;
use crate::contract::Framework;
use crate::workload::{PortNumber, Program, Workload};

pub(super) struct Triton;

const IMAGE: &str = "nvcr.io/nvidia/tritonserver:25.01-py3";
/// TensorRT engines and large models load for many minutes.
const START: Duration = Duration::from_secs(1200);
/// Python back ends take 1 MiB a process and 64 KiB a growing step; 1 GiB is NVIDIA's usual advice.
const SHARED_MEMORY: Bytes = Bytes(1 << 30);
/// Environments of Python back ends are unpacked there.
const SCRATCH: Bytes = Bytes(10 << 30);

impl Runtime for Triton {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let image = request.image(IMAGE);
        request.needs_containers(&image)?;
        let (resources, part) = request.resources()?;
        let (model, _) = request.model_volume()?;
        let mut args = vec![
            text(format!("--model-repository={MODEL_MOUNT}")),
            text("--http-port=8000"),
            text("--grpc-port=8001"),
            text("--metrics-port=8002"),
            // A repository where one model is broken should not look ready.
            text("--strict-readiness=true"),
            text(format!("--exit-timeout-secs={}", GRACE.as_secs())),
        ];
        let knobs = request.knobs(part.as_ref(), Framework::Triton)?;
        args.extend(knobs.args);
        args.extend(request.args());
        Ok(Workload {
            program: Program::Image { image, command: vec![text("tritonserver")] },
            args,
            env: request.env(user().into_iter().chain(knobs.env)),
            working_dir: None,
            ports: vec![
                port("http", PortNumber::Fixed(8000)),
                port("grpc", PortNumber::Fixed(8001)),
                port("metrics", PortNumber::Fixed(8002)),
            ],
            grpc: Some("grpc".to_owned()),
            metrics: metrics("metrics", "/metrics"),
            probes: http_probes("/v2/health/ready", "/v2/health/live", request.start(START)),
            resources,
            volumes: vec![model, scratch(SCRATCH), request.shared_memory(SHARED_MEMORY)],
            drain: request.foreign(),
            grace: GRACE,
        })
    }
}
