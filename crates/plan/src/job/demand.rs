//! What a job asks its queue for.

use trainyard_api::TrainingJob;
use trainyard_api::defaults::complete_job;
use trainyard_api::scalar::{Bytes, Millicores};

use super::devices::whole_gpus;
use crate::facts::Target;

/// What is rationed, of a job on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// None leaves it to the machine.
    pub queue: Option<String>,
    pub priority: i32,
    pub workers: u32,
    /// So many will do.
    pub min_workers: u32,
    /// Of one worker. What was not written down is not counted: it is no limit either.
    pub cpu: Millicores,
    pub memory: Bytes,
    pub gpus: u32,
    /// The pool that a cluster would take its GPUs from.
    pub pool: Option<String>,
}

impl Demand {
    /// Of a job as it is declared.
    pub fn of(job: &TrainingJob, target: &Target) -> Self {
        let spec = complete_job(&job.spec);
        Self {
            gpus: whole_gpus(&spec, target),
            queue: spec.queue,
            priority: spec.priority,
            workers: spec.workers,
            min_workers: spec.min_workers,
            cpu: spec.asked.cpu.unwrap_or_default(),
            memory: spec.asked.memory.unwrap_or_default(),
            pool: spec.asked.gpu.and_then(|gpu| gpu.pool),
        }
    }
}

/// The job as it is with so many workers, which is no more than it asked for.
pub fn with_workers(job: &TrainingJob, count: u32) -> TrainingJob {
    let mut job = job.clone();
    if let Some(workers) = &mut job.spec.workers {
        workers.count = count.min(workers.count);
    }
    job
}

#[test]
fn what_is_asked_for() {
    let job = |more: serde_json::Value| -> TrainingJob {
        let mut job = serde_json::json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"},
            "spec": {"framework": "generic", "command": ["t"]},
        });
        job["spec"].as_object_mut().expect("a spec").extend(
            more.as_object()
                .expect("fields")
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        serde_json::from_value(job).expect("a job")
    };
    let here = |gpus| Target::Local { cpu: Millicores(8000), memory: Bytes(1 << 30), gpus };
    let nothing = Demand::of(&job(serde_json::json!({})), &here(2));
    assert_eq!((nothing.workers, nothing.cpu.0, nothing.memory.0, nothing.gpus), (1, 0, 0, 0));
    let all = job(serde_json::json!({
        "workers": {"count": 4, "min": 2}, "queue": "q", "priority": 3,
        "resources": {"cpu": "500m", "memory": "1Mi", "gpu": {"count": 2, "pool": "t4"}},
    }));
    let asked = Demand::of(&all, &here(8));
    assert_eq!(
        (asked.queue.as_deref(), asked.priority, asked.pool.as_deref()),
        (Some("q"), 3, Some("t4"))
    );
    assert_eq!((asked.workers, asked.min_workers, asked.gpus), (4, 2, 2));
    assert_eq!((asked.cpu, asked.memory), (Millicores(500), Bytes(1 << 20)));
    // A machine without GPUs has none to ration.
    assert_eq!(Demand::of(&all, &here(0)).gpus, 0);
    let part = job(serde_json::json!({"resources": {"gpu": {"share": "1/4"}}}));
    assert_eq!(Demand::of(&part, &here(1)).gpus, 1);
    assert_eq!(with_workers(&all, 3).spec.workers.map(|it| it.count), Some(3));
}
