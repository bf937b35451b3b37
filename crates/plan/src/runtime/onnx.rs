//! Trainyard's own model server, `trainyard serve`.

use std::time::Duration;

use trainyard_api::scalar::Bytes;

use super::{
    DRAIN, GRACE, Request, Runtime, http_probes, metrics, model_path, port, scratch, text, user,
};
use crate::compile::PlanError;
use crate::contract::Framework;
use crate::facts::Target;
use crate::workload::{Drain, PortNumber, Program, Value, Workload};

pub(super) struct Onnx;

/// A large model on a cold disk; ONNX Runtime's graph optimisation takes minutes for the largest.
const START: Duration = Duration::from_secs(600);
/// The port in a pod: Kubernetes' usual one for HTTP without privileges.
const PORT: u16 = 8080;
/// Temporary files of the engine.
const SCRATCH: Bytes = Bytes(1 << 30);

impl Runtime for Onnx {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let batching = &request.spec.batching;
        let (resources, part) = request.resources()?;
        let (model, inside) = request.model_volume()?;
        let mut args =
            vec![text("serve"), model_path(&inside), text("--name"), Value::literal(request.model)];
        let knobs = request.knobs(part.as_ref(), Framework::Trainyard)?;
        let flag = |name: &str, value: Option<String>| {
            value.into_iter().flat_map(|value| [text(name), text(value)]).collect::<Vec<_>>()
        };
        let milliseconds = |delay: Duration| format!("{}us", delay.as_micros());
        let version = request.spec.model.version;
        args.extend(flag("--max-batch", batching.max_size.map(|size| size.to_string())));
        args.extend(flag("--max-delay", batching.max_delay.map(|delay| milliseconds(delay.0))));
        args.extend(flag("--max-queue", batching.max_queue.map(|queue| queue.to_string())));
        args.extend(flag("--version", version.map(|version| version.to_string())));
        args.extend(knobs.args);

        let mut volumes = vec![model];
        let (program, number, drain, env) = match &request.facts.target {
            Target::Local { .. } => {
                let threads = request.spec.asked.cpu.map(|cpu| threads(cpu.0).to_string());
                args.extend(flag("--threads", threads));
                // The server chooses its port and tells it, so that no other program can take a
                // port between its choice and its use.
                args.extend(["--host", "127.0.0.1", "--port", "0"].map(text));
                args.extend([text("--address-file"), Value::AddressFile]);
                let program = Program::Trainyard { image: None };
                (program, PortNumber::Reported, Drain::None, request.env(knobs.env))
            }
            Target::Kubernetes { image, .. } => {
                // The server reads its CPU limit from its cgroup.
                args.extend(flag("--host", Some("0.0.0.0".to_owned())));
                args.extend(flag("--port", Some(PORT.to_string())));
                args.extend(flag("--shutdown-delay", Some(format!("{}s", DRAIN.as_secs()))));
                volumes.push(scratch(SCRATCH));
                let program = Program::Trainyard { image: Some(request.image(image)) };
                let env = request.env(user().into_iter().chain(knobs.env));
                (program, PortNumber::Fixed(PORT), Drain::Program(DRAIN), env)
            }
        };
        args.extend(request.args());

        Ok(Workload {
            program,
            args,
            env,
            working_dir: None,
            ports: vec![port("http", number)],
            // REST and gRPC on one port.
            grpc: Some("http".to_owned()),
            metrics: metrics("http", "/metrics"),
            probes: http_probes("/v2/health/ready", "/v2/health/live", request.start(START)),
            resources,
            volumes,
            drain,
            grace: GRACE,
        })
    }
}

/// Threads for an amount of CPU: part of a core is a thread too.
fn threads(millicores: u64) -> u64 {
    millicores.div_ceil(1000).max(1)
}
