//! TensorFlow Serving.

use std::time::Duration;

use trainyard_api::defaults::Complete;
use trainyard_api::model_service::path_segment;
use trainyard_api::scalar::Bytes;

use super::{
    GRACE, MODEL_MOUNT, Request, Runtime, config, config_file, metrics, one_http_probe, port,
    scratch, text, user,
};
use crate::compile::PlanError;
use crate::contract::Framework;
use crate::workload::{PortNumber, Program, Value, Workload};

pub(super) struct TensorFlow;

const IMAGE: &str = "docker.io/tensorflow/serving:2.19.0";
const IMAGE_GPU: &str = "docker.io/tensorflow/serving:2.19.0-gpu";
const START: Duration = Duration::from_secs(600);
const SCRATCH: Bytes = Bytes(1 << 30);
const METRICS: &str = "/monitoring/prometheus/metrics";

const MONITORING_FILE: &str = "monitoring.config";
const BATCHING_FILE: &str = "batching.config";
const MODELS_FILE: &str = "models.config";

impl Runtime for TensorFlow {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let image = request.image(if request.spec.asked.gpu.is_some() { IMAGE_GPU } else { IMAGE });
        request.needs_containers(&image)?;
        let (resources, part) = request.resources()?;
        let (model, _) = request.model_volume()?;
        let mut files = vec![(MONITORING_FILE, monitoring())];
        let mut args = vec![
            text("--port=8500"),
            text("--rest_api_port=8501"),
            text(format!("--monitoring_config_file={}", config_file(MONITORING_FILE))),
        ];
        match request.spec.model.version {
            Some(version) => {
                files.push((MODELS_FILE, models(request.model, version)));
                args.push(text(format!("--model_config_file={}", config_file(MODELS_FILE))));
            }
            None => args.extend([
                Value::literal(format!("--model_name={}", request.model)),
                text(format!("--model_base_path={MODEL_MOUNT}")),
            ]),
        }
        if let Some(batching) = batching(request.spec) {
            files.push((BATCHING_FILE, batching));
            args.extend([
                text("--enable_batching=true"),
                text(format!("--batching_parameters_file={}", config_file(BATCHING_FILE))),
            ]);
        }
        let knobs = request.knobs(part.as_ref(), Framework::TensorflowServing)?;
        args.extend(knobs.args);
        args.extend(request.args());
        // It answers 200 once a version is available; there is no other health endpoint.
        let status = format!("/v1/models/{}", path_segment(request.model));
        Ok(Workload {
            program: Program::Image {
                image,
                command: vec![text("/usr/bin/tensorflow_model_server")],
            },
            args,
            env: request.env(user().into_iter().chain(knobs.env)),
            working_dir: None,
            ports: vec![
                port("http", PortNumber::Fixed(8501)),
                port("grpc", PortNumber::Fixed(8500)),
            ],
            grpc: Some("grpc".to_owned()),
            metrics: metrics("http", METRICS),
            probes: one_http_probe(&status, request.start(START)),
            resources,
            volumes: vec![model, config(files), scratch(SCRATCH)],
            drain: request.foreign(),
            grace: GRACE,
        })
    }
}

/// `MonitoringConfig` as protobuf text.
fn monitoring() -> String {
    format!("prometheus_config {{\n  enable: true\n  path: \"{METRICS}\"\n}}\n")
}

/// `ModelServerConfig` as protobuf text, with one version. A service's name needs no escape.
fn models(service: &str, version: u64) -> String {
    format!(
        "model_config_list {{\n  config {{\n    name: \"{service}\"\n    base_path: \"{MODEL_MOUNT}\"\n    \
         model_platform: \"tensorflow\"\n    model_version_policy {{\n      specific {{\n        \
         versions: {version}\n      }}\n    }}\n  }}\n}}\n"
    )
}

/// `BatchingParameters` as protobuf text; none where nothing was said.
fn batching(spec: &Complete) -> Option<String> {
    let batching = &spec.batching;
    if batching.max_size.is_none() && batching.max_delay.is_none() && batching.max_queue.is_none() {
        return None;
    }
    let mut lines = String::new();
    let mut line = |name: &str, value: Option<u64>| {
        lines.extend(value.map(|value| format!("{name} {{ value: {value} }}\n")));
    };
    line("max_batch_size", batching.max_size.map(u64::from));
    let delay = batching.max_delay.map(|delay| u64::try_from(delay.0.as_micros()));
    line("batch_timeout_micros", delay.map(|micros| micros.unwrap_or(u64::MAX)));
    // It counts batches, and the manifest requests: a full batch each, rounded up.
    let size = batching.max_size.unwrap_or(DEFAULT_BATCH).max(1);
    line("max_enqueued_batches", batching.max_queue.map(|queue| queue.div_ceil(size).into()));
    line("num_batch_threads", Some(spec.cpu.0.div_ceil(1000).max(1)));
    Some(lines)
}

/// TensorFlow Serving's `max_batch_size` where its file has none.
const DEFAULT_BATCH: u32 = 1000;
