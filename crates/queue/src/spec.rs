//! From the resource to what decides.

use trainyard_api::queue::{self as api, QueueSpec};

use crate::queue::{
    BorrowWithinCohort, FlavourQuota, Preemption, Queue, Quota, ReclaimWithinCohort, Strategy,
    WithinQueue,
};

/// What a queue's spec means.
pub fn queue_of(spec: &QueueSpec) -> Queue {
    let flavours = spec.quotas.iter().map(|quota| FlavourQuota {
        flavour: quota.pool.clone(),
        cpu: quota.cpu.as_ref().map(|it| Quota {
            nominal: it.nominal.0,
            borrowing_limit: it.borrowing_limit.map(|limit| limit.0),
            lending_limit: it.lending_limit.map(|limit| limit.0),
        }),
        memory: quota.memory.as_ref().map(|it| Quota {
            nominal: it.nominal.0,
            borrowing_limit: it.borrowing_limit.map(|limit| limit.0),
            lending_limit: it.lending_limit.map(|limit| limit.0),
        }),
        gpu: quota.gpu.as_ref().map(|it| Quota {
            nominal: it.nominal.into(),
            borrowing_limit: it.borrowing_limit.map(u64::from),
            lending_limit: it.lending_limit.map(u64::from),
        }),
    });
    Queue {
        cohort: spec.cohort.clone(),
        flavours: flavours.collect(),
        strategy: match spec.strategy.unwrap_or_default() {
            api::Strategy::Strict => Strategy::StrictFifo,
            api::Strategy::BestEffort => Strategy::BestEffortFifo,
            api::Strategy::Backfill => Strategy::Backfill,
        },
        preemption: spec.preemption.as_ref().map(preemption).unwrap_or_default(),
        weight: spec.fair_sharing.as_ref().map(|it| it.weight),
    }
}

fn preemption(spec: &api::Preemption) -> Preemption {
    Preemption {
        within_queue: match spec.within_queue.unwrap_or_default() {
            api::WithinQueue::Never => WithinQueue::Never,
            api::WithinQueue::LowerPriority => WithinQueue::LowerPriority,
            api::WithinQueue::LowerOrNewerEqualPriority => WithinQueue::LowerOrNewerEqualPriority,
        },
        reclaim_within_cohort: match spec.reclaim_within_cohort.unwrap_or_default() {
            api::ReclaimWithinCohort::Never => ReclaimWithinCohort::Never,
            api::ReclaimWithinCohort::LowerPriority => ReclaimWithinCohort::LowerPriority,
            api::ReclaimWithinCohort::Any => ReclaimWithinCohort::Any,
        },
        borrow_within_cohort: match &spec.borrow_within_cohort {
            None => BorrowWithinCohort::Never,
            Some(it) => BorrowWithinCohort::LowerPriority { max_priority: it.max_priority },
        },
    }
}

#[test]
fn what_a_queue_means() {
    let spec = serde_json::json!({
        "cohort": "all",
        "quotas": [{
            "pool": "t4", "cpu": {"nominal": "8"}, "memory": {"nominal": "1Gi"},
            "gpu": {"nominal": 4, "borrowingLimit": 2, "lendingLimit": 0},
        }],
        "strategy": "strict",
        "preemption": {
            "withinQueue": "lowerPriority", "reclaimWithinCohort": "any", "borrowWithinCohort": {},
        },
    });
    let found = queue_of(&serde_json::from_value(spec).expect("a spec"));
    let quota = &found.flavours[0];
    assert_eq!(quota.cpu.map(|it| it.nominal), Some(8_000));
    assert_eq!(quota.memory.map(|it| it.nominal), Some(1 << 30));
    let gpu = Quota { nominal: 4, borrowing_limit: Some(2), lending_limit: Some(0) };
    assert_eq!((quota.gpu, found.strategy), (Some(gpu), Strategy::StrictFifo));
    assert_eq!(found.preemption.within_queue, WithinQueue::LowerPriority);
    let borrow = BorrowWithinCohort::LowerPriority { max_priority: None };
    assert_eq!(found.preemption.borrow_within_cohort, borrow);
}
