//! What a job with a queue asks for, or has, for those who decide about queues.

use std::time::Duration;

use trainyard_api::TrainingJob;
use trainyard_api::defaults::CompleteJob;
use trainyard_control::job::{Because, Phase, Policy};
use trainyard_plan::JobPlan;
use trainyard_queue::{Admission, Amounts, Workload};

use super::memory::Memory;

/// The quota of jobs that ask for no GPU, or name no pool.
const DEFAULT: &str = "default";

/// What one worker takes of a quota.
pub(super) fn per_worker(plan: &JobPlan) -> Amounts {
    let device = plan.resources.gpu.as_ref().and_then(|gpu| gpu.device.as_ref());
    let gpu = device.map_or(0, |device| device.request.units());
    Amounts {
        cpu: plan.resources.cpu.map_or(0, |cpu| cpu.0),
        memory: plan.resources.memory.map_or(0, |memory| memory.0),
        gpu: gpu.into(),
    }
}

/// None for a job without a queue, and for one that neither waits nor has anything.
pub(super) fn workload(
    job: &TrainingJob,
    spec: &CompleteJob,
    plan: &JobPlan,
    memory: &Memory,
    policy: &Policy,
) -> Option<Workload> {
    let queue = spec.queue.as_ref()?;
    let state = &memory.state;
    if state.is_over() {
        return None;
    }
    let created = job.metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second());
    let ends_by = state.deadline(policy);
    let asks = Workload {
        queue: queue.clone(),
        priority: spec.priority,
        created: Duration::from_secs(u64::try_from(created).unwrap_or(0)),
        per_worker: per_worker(plan),
        count: spec.workers,
        min_count: (spec.min_workers < spec.workers).then_some(spec.min_workers),
        flavours: vec![
            plan.resources
                .gpu
                .as_ref()
                .and_then(|gpu| gpu.pool.clone())
                .unwrap_or_else(|| DEFAULT.to_owned()),
        ],
        // What it has used of that before it was pushed out is left aside: more is promised to nobody.
        run_time: policy.deadline,
        admission: None,
    };
    let Some(given) = &memory.given else {
        return matches!(state.phase, Phase::Waiting { .. }).then_some(asks);
    };
    // Workers of which one has failed start again with what they have.
    let is_leaving = matches!(
        state.phase,
        Phase::Ending(Because::Preempted | Because::Changed | Because::Asked | Because::Deadline)
    );
    let admission = Admission {
        flavour: given.assignment.flavour.clone(),
        count: given.assignment.count,
        since: given.since,
        ends_by,
        is_leaving,
    };
    Some(Workload {
        queue: given.queue.clone(),
        per_worker: given.per_worker,
        // The same as long as nothing changes, or it would be news at each look.
        run_time: None,
        admission: Some(admission),
        ..asks
    })
}
