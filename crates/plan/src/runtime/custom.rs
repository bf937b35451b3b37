//! The user's own server.

use std::time::Duration;

use trainyard_api::scalar::Bytes;

use super::{GRACE, Request, Runtime, model_path, port, probes, scratch, text, user, var};
use crate::compile::PlanError;
use crate::contract::Framework;
use crate::facts::Target;
use crate::workload::{Check, EnvVar, PortNumber, Program, Value, Workload};

pub(super) struct Custom;

/// The port in a pod.
const PORT: u16 = 8080;
/// Interpreters that import a framework and load a model take minutes.
const START: Duration = Duration::from_secs(600);
/// Caches and temporary files of a server that nobody knows.
const SCRATCH: Bytes = Bytes(10 << 30);
/// Workers of PyTorch and of many others exchange tensors through it.
const SHARED_MEMORY: Bytes = Bytes(1 << 30);

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
        let (resources, part) = request.resources()?;
        let (model, inside) = request.model_volume()?;
        let mut volumes = vec![model];
        let mut env = Vec::new();
        if !request.is_local() {
            volumes.extend([scratch(SCRATCH), request.shared_memory(SHARED_MEMORY)]);
            env.extend(user());
        }
        env.extend([
            // Cloud Run's and Knative's name for it.
            var("PORT", Value::Port("http".to_owned())),
            var("MODEL_PATH", model_path(&inside)),
            var("MODEL_NAME", Value::literal(request.model)),
        ]);
        let mut args: Vec<Value> = request.args().collect();
        if let Some(part) = &part {
            let contract = request.contract(part);
            // What the frameworks read by themselves; each is ignored by the others.
            for framework in [Framework::Jax, Framework::Tensorflow, Framework::Pytorch] {
                env.extend(contract.harmless(framework)?.env);
            }
            if let Some(framework) = contract.detect() {
                let knobs = contract.knobs(framework)?;
                let there = |var: &EnvVar| env.iter().any(|other| other.name == var.name);
                let more: Vec<_> = knobs.env.into_iter().filter(|var| !there(var)).collect();
                env.extend(more);
                if !is_script(&runtime.command) {
                    args.extend(knobs.args);
                }
            }
            env.extend(contract.knobs(Framework::Mps)?.env);
        }
        // Nothing is known of its protocol but that it accepts connections once it is up.
        let connects = || Check::Tcp { port: "http".to_owned() };
        Ok(Workload {
            program,
            args,
            env: request.env(env),
            working_dir: None,
            ports: vec![port("http", number)],
            grpc: None,
            metrics: None,
            probes: probes(connects(), connects(), request.start(START)),
            resources,
            volumes,
            drain: request.foreign(),
            grace: GRACE,
        })
    }
}

/// Whether the command is a shell with a script, so that arguments after it are not the program's.
pub(super) fn is_script(command: &[String]) -> bool {
    let shell = command.first().and_then(|first| first.rsplit('/').next());
    let is_shell = shell.is_some_and(|name| ["sh", "bash", "dash", "ash", "zsh"].contains(&name));
    is_shell && command.iter().any(|word| word.starts_with('-') && word.contains('c'))
}
