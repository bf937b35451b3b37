//! The GPUs of one worker, and what bounds its program to a part of one.

use trainyard_api::defaults::{CompleteJob, CompleteRuntime};
use trainyard_api::model_service::RuntimeName;
use trainyard_api::training_job::Framework as Written;

use crate::compile::PlanError;
use crate::contract::{Contract, Framework};
use crate::facts::Target;
use crate::gpu;
use crate::workload::{EnvVar, Gpu};

#[derive(Default)]
pub(super) struct Devices {
    pub(super) gpu: Option<Gpu>,
    /// By which the frameworks keep to their part.
    pub(super) env: Vec<EnvVar>,
}

/// GPUs of this machine that one worker has to itself: a part of one counts as one, since nothing
/// here divides it. None on a machine that has none, where the program runs without, and none of a
/// cluster, whose pools know.
pub(super) fn whole_gpus(spec: &CompleteJob, target: &Target) -> u32 {
    match (target, &spec.asked.gpu) {
        (Target::Local { gpus: 1.., .. }, Some(gpu)) => gpu.count.unwrap_or(1),
        _ => 0,
    }
}

/// What a worker asks a cluster for. On a machine nothing is asked for.
pub(super) fn of(job: &str, spec: &CompleteJob, target: &Target) -> Result<Devices, PlanError> {
    if matches!(target, Target::Local { .. }) {
        return Ok(Devices::default());
    }
    let (gpu, part) = gpu::gpu(job, spec.asked.gpu.as_ref(), spec.placement.spot, target)?;
    let Some(part) = part else { return Ok(Devices { gpu, env: Vec::new() }) };
    let program = CompleteRuntime {
        name: RuntimeName::Custom,
        image: spec.image.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
    };
    let contract = Contract { service: job, field: "spec", runtime: &program, part: &part };
    let frameworks: &[Framework] = match spec.framework {
        Written::PyTorch => &[Framework::Pytorch],
        Written::TensorFlow => &[Framework::Tensorflow],
        Written::Jax => &[Framework::Jax],
        // Whatever it is: each ignores the others' variables.
        Written::Mpi | Written::Generic => {
            &[Framework::Jax, Framework::Tensorflow, Framework::Pytorch]
        }
    };
    let mut env = Vec::new();
    for framework in frameworks {
        env.extend(contract.harmless(*framework)?.env);
    }
    env.extend(contract.knobs(Framework::Mps)?.env);
    Ok(Devices { gpu, env })
}
