//! TensorFlow Serving.

use std::time::Duration;

use trainyard_api::model_service::path_segment;

use super::{GRACE, MODEL_MOUNT, Request, Runtime, http_probes, port, text};
use crate::compile::PlanError;
use crate::workload::{PortNumber, Program, Value, Workload};

pub(super) struct TensorFlow;

const IMAGE: &str = "docker.io/tensorflow/serving:2.19.0";
const IMAGE_GPU: &str = "docker.io/tensorflow/serving:2.19.0-gpu";
const START: Duration = Duration::from_secs(600);

impl Runtime for TensorFlow {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let image = request.image(if request.spec.asked.gpu.is_some() { IMAGE_GPU } else { IMAGE });
        request.needs_containers(&image)?;
        let mut args = vec![
            text("--port=8500"),
            text("--rest_api_port=8501"),
            Value::literal(format!("--model_name={}", request.model)),
            text(format!("--model_base_path={MODEL_MOUNT}")),
        ];
        args.extend(request.args());
        // It answers 200 once a version is available; there is no other health endpoint.
        let status = format!("/v1/models/{}", path_segment(request.model));
        Ok(Workload {
            program: Program::Image {
                image,
                command: vec![text("/usr/bin/tensorflow_model_server")],
            },
            args,
            env: request.env([]),
            ports: vec![
                port("http", PortNumber::Fixed(8501)),
                port("grpc", PortNumber::Fixed(8500)),
            ],
            probes: http_probes(&status, &status, START),
            resources: request.resources(),
            volumes: vec![request.model_volume()?],
            grace: GRACE,
        })
    }
}
