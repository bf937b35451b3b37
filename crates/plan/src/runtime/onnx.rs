//! Trainyard's own model server, `trainyard serve`.

use std::time::Duration;

use super::{GRACE, Request, Runtime, http_probes, model_path, port, text};
use crate::compile::PlanError;
use crate::facts::Target;
use crate::workload::{PortNumber, Program, Value, Workload};

pub(super) struct Onnx;

/// A large model on a cold disk; ONNX Runtime's graph optimisation takes minutes for the largest.
const START: Duration = Duration::from_secs(600);
/// The port in a pod: Kubernetes' usual one for HTTP without privileges.
const PORT: u16 = 8080;

impl Runtime for Onnx {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let batching = &request.spec.batching;
        let mut args =
            vec![text("serve"), model_path(), text("--name"), Value::literal(request.model)];
        let mut flag = |name: &str, value: Option<String>| {
            args.extend(value.into_iter().flat_map(|value| [text(name), text(value)]));
        };
        let milliseconds = |delay: Duration| format!("{}us", delay.as_micros());
        flag("--max-batch", batching.max_size.map(|size| size.to_string()));
        flag("--max-delay", batching.max_delay.map(|delay| milliseconds(delay.0)));
        flag("--max-queue", batching.max_queue.map(|queue| queue.to_string()));
        flag("--version", request.spec.model.version.map(|version| version.to_string()));

        let (program, number) = match &request.facts.target {
            Target::Local { .. } => {
                flag("--threads", request.spec.asked.cpu.map(|cpu| threads(cpu.0).to_string()));
                // The server chooses its port and tells it, so that no other program can take a
                // port between its choice and its use.
                flag("--host", Some("127.0.0.1".to_owned()));
                flag("--port", Some("0".to_owned()));
                args.extend([text("--address-file"), Value::AddressFile]);
                (Program::Trainyard { image: None }, PortNumber::Reported)
            }
            Target::Kubernetes { image } => {
                // The server reads its CPU limit from its cgroup.
                flag("--host", Some("0.0.0.0".to_owned()));
                flag("--port", Some(PORT.to_string()));
                let image = Some(request.image(image));
                (Program::Trainyard { image }, PortNumber::Fixed(PORT))
            }
        };
        args.extend(request.args());

        Ok(Workload {
            program,
            args,
            env: request.env([]),
            ports: vec![port("http", number)],
            probes: http_probes("/v2/health/ready", "/v2/health/live", START),
            resources: request.resources(),
            volumes: vec![request.model_volume()?],
            grace: GRACE,
        })
    }
}

/// Threads for an amount of CPU: part of a core is a thread too.
fn threads(millicores: u64) -> u64 {
    millicores.div_ceil(1000).max(1)
}
