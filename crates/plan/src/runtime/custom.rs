//! The user's own server.

use std::time::Duration;

use super::{GRACE, Request, Runtime, model_path, port, probes, text, var};
use crate::compile::PlanError;
use crate::facts::Target;
use crate::workload::{Check, PortNumber, Program, Value, Workload};

pub(super) struct Custom;

/// The port in a pod.
const PORT: u16 = 8080;
/// Interpreters that import a framework and load a model take minutes.
const START: Duration = Duration::from_secs(600);

impl Runtime for Custom {
    fn workload(&self, request: &Request<'_>) -> Result<Workload, PlanError> {
        let runtime = &request.spec.runtime;
        let service = || request.service.to_owned();
        let command: Vec<Value> = runtime.command.iter().cloned().map(text).collect();
        let (program, number) = match (&request.facts.target, command.is_empty()) {
            (Target::Local { .. }, true) => {
                return Err(PlanError::NeedsCommand { service: service() });
            }
            (Target::Local { .. }, false) => {
                (Program::Command { image: None, command }, PortNumber::Assigned)
            }
            (Target::Kubernetes { .. }, _) => {
                let image = runtime.image.clone();
                let image = image.ok_or_else(|| PlanError::NeedsImage { service: service() })?;
                (Program::Image { image, command }, PortNumber::Fixed(PORT))
            }
        };
        let env = [
            // Cloud Run's and Knative's name for it.
            var("PORT", Value::Port("http".to_owned())),
            var("MODEL_PATH", model_path()),
            var("MODEL_NAME", Value::literal(request.model)),
        ];
        // Nothing is known of its protocol but that it accepts connections once it is up.
        let connects = || Check::Tcp { port: "http".to_owned() };
        Ok(Workload {
            program,
            args: request.args().collect(),
            env: request.env(env),
            ports: vec![port("http", number)],
            probes: probes(connects(), connects(), START),
            resources: request.resources(),
            volumes: vec![request.model_volume()?],
            grace: GRACE,
        })
    }
}
