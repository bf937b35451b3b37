//! What a job with a queue asks for, or has, for those who decide about queues.

use std::time::Duration;

use trainyard_api::TrainingJob;
use trainyard_api::defaults::CompleteJob;
use trainyard_control::job::{Phase, Policy};
use trainyard_plan::JobPlan;
use trainyard_queue::{Amounts, Why, Workload};

use super::memory::Memory;
use super::observe::HALF_GANG;

/// The quota of jobs that ask for no GPU, or name no pool.
const DEFAULT: &str = "default";
/// Pods of which the nodes have the image start within so long, and find each other: in the tests'
/// cluster it takes 3 to 6 s.
const PODS_START: Duration = Duration::from_secs(10);

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

/// What a start of all workers anew costs at most.
fn restart_cost(grace: Duration, memory: &Memory) -> Duration {
    let cost = grace.saturating_add(PODS_START);
    let resized = memory.given.as_ref().and_then(|given| given.resized.as_ref());
    match resized.map(|it| &it.why) {
        // Whether there are nodes again nobody knows before its workers wait for them in vain, and
        // start once more.
        Some(Why::NodesMissing) => cost.saturating_mul(2).saturating_add(HALF_GANG),
        _ => cost,
    }
}

/// None for a job without a queue, and for one that neither waits nor has anything, such as one of
/// which it is not known yet whether its data is there. One without a
/// plan cannot start, and keeps what it has; so does one that names no queue any more, until its
/// workers have ended.
pub(super) fn workload(
    job: &TrainingJob,
    spec: &CompleteJob,
    plan: Option<&JobPlan>,
    memory: &Memory,
    policy: &Policy,
) -> Option<Workload> {
    let queue = spec.queue.as_ref().or(memory.given.as_ref().map(|given| &given.queue))?;
    let state = &memory.state;
    if state.is_over() {
        return None;
    }
    let created = job.metadata.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second());
    let common = Workload {
        queue: queue.clone(),
        priority: spec.priority,
        created: Duration::from_secs(u64::try_from(created).unwrap_or(0)),
        count: spec.workers,
        min_count: (spec.min_workers < spec.workers).then_some(spec.min_workers),
        // Without a store its checkpoints go with its pods. Where nothing can be started, nothing is
        // ended to start it anew.
        restart_cost: plan
            .and_then(|plan| plan.checkpoint.as_ref())
            .filter(|checkpoint| checkpoint.uri.is_some())
            .map(|checkpoint| restart_cost(checkpoint.grace, memory)),
        ..Workload::default()
    };
    if let Some(given) = &memory.given {
        // Workers of which one has failed start again with what they have.
        let resize = memory.resize.as_ref();
        return Some(given.held_by(common, state.deadline(policy), state.is_leaving(), resize));
    }
    let may_ask = matches!(state.phase, Phase::Waiting { .. }) && memory.look().is_none();
    let plan = plan.filter(|_| may_ask)?;
    let pool = plan.resources.gpu.as_ref().and_then(|gpu| gpu.pool.clone());
    Some(Workload {
        per_worker: per_worker(plan),
        flavours: vec![pool.unwrap_or_else(|| DEFAULT.to_owned())],
        run_time: state.left(policy),
        ..common
    })
}

#[cfg(test)]
mod tests {
    use trainyard_api::defaults::complete_job;
    use trainyard_plan::{Target, compile_job};
    use trainyard_queue::{Assignment, Resize};

    use super::*;
    use crate::jobs::memory::{Given, Preflight};

    #[test]
    fn what_is_asked_for_and_what_is_had() {
        let job: TrainingJob = serde_json::from_value(serde_json::json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "a", "namespace": "ml", "creationTimestamp": "1970-01-01T00:00:09Z"},
            "spec": {
                "framework": "generic", "image": "i", "command": ["t"], "queue": "q", "priority": 3,
                "workers": {"count": 4, "min": 2}, "resources": {"cpu": "500m", "memory": "1Gi"},
                "deadline": "1h",
            },
        }))
        .expect("a job");
        let spec = complete_job(&job.spec);
        let target = Target::Kubernetes { image: "t".to_owned(), gpu_pools: Default::default() };
        let plan = compile_job(&job, &target).expect("a plan");
        let policy = Policy { retries: 1, deadline: spec.deadline };
        let mut memory = Memory::new(Duration::from_secs(10));
        let of = |memory: &Memory, plan| workload(&job, &spec, plan, memory, &policy);
        let asks = of(&memory, Some(&plan)).expect("it waits");
        assert_eq!((asks.count, asks.min_count, asks.priority), (4, Some(2), 3));
        assert_eq!(asks.per_worker, Amounts { cpu: 500, memory: 1 << 30, gpu: 0 });
        assert_eq!(
            (asks.flavours, asks.created),
            (vec!["default".to_owned()], Duration::from_secs(9))
        );
        assert_eq!(asks.run_time, Some(Duration::from_secs(3600)));
        assert_eq!(of(&memory, None), None);
        memory.preflight = Some(Preflight::new("r", Duration::from_secs(10)));
        assert_eq!(of(&memory, Some(&plan)), None, "it is looked for its data first");
        memory.preflight = None;
        let assignment = Assignment { flavour: "t4".to_owned(), count: 2, borrows: false };
        let per_worker = Amounts { gpu: 1, ..Amounts::default() };
        let (queue, since) = ("before".to_owned(), Duration::from_secs(20));
        memory.given = Some(Given { queue, assignment, per_worker, since, resized: None });
        memory.state.phase = Phase::Running;
        memory.state.began = Some(Duration::from_secs(20));
        let has = of(&memory, None).expect("it has something");
        assert_eq!((has.queue.as_str(), has.per_worker), ("before", per_worker));
        let admission = has.admission.clone().expect("it was let in");
        assert_eq!(admission.ends_by, Some(Duration::from_secs(3620)));
        assert!(!admission.is_leaving);
        // It names none any more, and its pods run still.
        let none = CompleteJob { queue: None, ..spec.clone() };
        let kept = workload(&job, &none, Some(&plan), &memory, &policy).expect("it has it still");
        assert_eq!(kept, has);
        // More workers are worth a new start only where that loses nothing.
        assert_eq!((has.count, has.min_count, has.restart_cost), (4, Some(2), None));
        assert_eq!(of(&memory, Some(&plan)).and_then(|it| it.restart_cost), None);
        let mut stored = job.clone();
        stored.spec.checkpoint = serde_json::from_value(serde_json::json!({
            "path": "c", "uri": "s3://b/c", "grace": "20s",
        }))
        .expect("a checkpoint");
        let plan_of = compile_job(&stored, &target).expect("a plan");
        let cost = |memory: &Memory| of(memory, Some(&plan_of)).and_then(|it| it.restart_cost);
        assert_eq!(cost(&memory), Some(Duration::from_secs(30)));
        // What it gives up is its own until its workers have ended, and what it gets already.
        let resize = |to, why| Resize { from: 2, to, borrows: false, why };
        let admission = |memory: &Memory| {
            let admission = of(memory, None).and_then(|it| it.admission).expect("it was let in");
            (admission.count, admission.shrinks_to)
        };
        memory.resize = Some(resize(1, Why::NodesMissing));
        assert_eq!(admission(&memory), (2, Some(1)));
        let grown = resize(3, Why::Room);
        memory.resize = Some(grown.clone());
        memory.given.as_mut().expect("given").resize(&grown, Duration::from_secs(30));
        assert_eq!(admission(&memory), (3, None));
        // Where nodes were missing it is tried again less often.
        let fewer = resize(1, Why::NodesMissing);
        memory.given.as_mut().expect("given").resize(&fewer, Duration::from_secs(40));
        assert_eq!(cost(&memory), Some(Duration::from_secs(360)));
        memory.resize = None;
        memory.state = memory.state.preempted();
        assert!(of(&memory, None).and_then(|it| it.admission).is_some_and(|it| it.is_leaving));
        memory.state.phase = Phase::Succeeded;
        assert_eq!(of(&memory, Some(&plan)), None);
    }
}
