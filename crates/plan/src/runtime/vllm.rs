//! vLLM's OpenAI-compatible server.

use std::time::Duration;

use trainyard_api::scalar::Bytes;

use super::{
    GRACE, MODEL_MOUNT, Request, Runtime, metrics, one_http_probe, port, scratch, text, user, var,
};
use crate::compile::PlanError;
use crate::contract::Framework;
use crate::workload::{GpuAmount, PortNumber, Program, Value, Workload};

pub(super) struct Vllm;

const IMAGE: &str = "docker.io/vllm/vllm-openai:v0.10.0";
/// Weights of tens of gigabytes, then compilation and graph capture.
const START: Duration = Duration::from_secs(1800);
/// NCCL and the workers of tensor parallelism talk through it.
const SHARED_MEMORY: Bytes = Bytes(8 << 30);
/// Compiled kernels and graphs.
const SCRATCH: Bytes = Bytes(20 << 30);

impl Runtime for Vllm {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let image = request.image(IMAGE);
        request.needs_containers(&image)?;
        let (resources, part) = request.resources()?;
        let (model, _) = request.model_volume()?;
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
        let knobs = request.knobs(part.as_ref(), Framework::Vllm)?;
        args.extend(knobs.args);
        if let Some(size) = request.spec.batching.max_size {
            args.extend([text("--max-num-seqs"), text(size.to_string())]);
        }
        args.extend(request.args());
        let mut env = Vec::from(user());
        env.extend([
            // The model is there; a look-up elsewhere would wait for a network that is closed.
            var("HF_HUB_OFFLINE", text("1")),
            var("VLLM_NO_USAGE_STATS", text("1")),
        ]);
        env.extend(knobs.env);
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
            env: request.env(env),
            working_dir: None,
            ports: vec![port("http", PortNumber::Fixed(8000))],
            grpc: None,
            metrics: metrics("http", "/metrics"),
            probes: one_http_probe("/health", request.start(START)),
            resources,
            volumes: vec![model, scratch(SCRATCH), request.shared_memory(SHARED_MEMORY)],
            drain: request.foreign(),
            grace: GRACE,
        })
    }
}
