//! vLLM's OpenAI-compatible server.

use std::time::Duration;

use trainyard_api::scalar::Bytes;

use super::{GRACE, MODEL_MOUNT, Request, Runtime, http_probes, port, shared_memory, text};
use crate::compile::PlanError;
use crate::workload::{GpuAmount, PortNumber, Program, Value, Workload};

pub(super) struct Vllm;

const IMAGE: &str = "docker.io/vllm/vllm-openai:v0.10.0";
/// Weights of tens of gigabytes, then compilation and graph capture.
const START: Duration = Duration::from_secs(1800);
/// NCCL and the workers of tensor parallelism talk through it.
const SHARED_MEMORY: Bytes = Bytes(8 << 30);

impl Runtime for Vllm {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let image = request.image(IMAGE);
        request.needs_containers(&image)?;
        let resources = request.resources();
        let mut args = vec![
            text("--model"),
            text(MODEL_MOUNT),
            text("--served-model-name"),
            Value::literal(request.model),
            text("--port"),
            text("8000"),
        ];
        // Several GPUs of one replica are of use only if the model is split over them.
        if let Some(GpuAmount::Count(count @ 2..)) = resources.gpu.as_ref().map(|gpu| gpu.amount) {
            args.extend([text("--tensor-parallel-size"), text(count.to_string())]);
        }
        args.extend(request.args());
        Ok(Workload {
            program: Program::Image {
                image,
                command: vec![
                    text("python3"),
                    text("-m"),
                    text("vllm.entrypoints.openai.api_server"),
                ],
            },
            args,
            env: request.env([]),
            ports: vec![port("http", PortNumber::Fixed(8000))],
            probes: http_probes("/health", "/health", START),
            resources,
            volumes: vec![request.model_volume()?, shared_memory(SHARED_MEMORY)],
            grace: GRACE,
        })
    }
}
