//! What an operator goes on from, as it stands in the status of a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trainyard_api::TrainingJob;
use trainyard_api::training_job::{TrainingJobSpec, Workers};
use trainyard_control::job::{Phase, State};
pub(super) use trainyard_queue::Grant as Given;
use trainyard_queue::Waiting;

use crate::console::Standing;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    pub(super) state: State,
    /// The program and its sizes that were asked for when workers were started last.
    #[serde(default)]
    pub(super) revision: String,
    /// Workers of the last start.
    #[serde(default)]
    pub(super) workers: u32,
    /// The uid of the Job of the last start; none before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<String>,
    /// Why the attempt before ended, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<String>,
    /// What its queue gave it; none while it waits for that, and without a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) given: Option<Given>,
    /// Why it waits in its queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<Waiting>,
    /// For whom it has to make room, or had to, and why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preempted: Option<String>,
}

impl Memory {
    /// Of a job that was just declared.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            state: State::new(now),
            revision: String::new(),
            workers: 0,
            made: None,
            last: None,
            given: None,
            waiting: None,
            preempted: None,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Where a job stands in its queue, as its status says; none for one without a queue, and for one
/// that neither waits nor has anything.
pub(crate) fn stand_in_queue(job: &TrainingJob) -> Option<Standing> {
    job.spec.queue.as_ref()?;
    let Some(text) = job.status.as_ref().and_then(|status| status.memory.as_deref()) else {
        return Some(Standing::Waits(None));
    };
    let memory = Memory::parse(text).ok()?;
    match memory.given {
        Some(Given { queue, assignment, since, .. }) => {
            Some(Standing::Has { queue, assignment, since })
        }
        None if matches!(memory.state.phase, Phase::Waiting { .. }) => {
            Some(Standing::Waits(memory.waiting))
        }
        None => None,
    }
}

/// Names what workers are made of: another one means that they have to start anew. How often, how
/// long and whether at all a job runs is not in it.
pub(super) fn revision(spec: &TrainingJobSpec) -> String {
    let spec = TrainingJobSpec {
        suspend: None,
        retries: None,
        deadline: None,
        ttl_after_finished: None,
        // Whether fewer would do matters to the queue only.
        workers: spec.workers.clone().map(|workers| Workers { min: None, ..workers }),
        priority: None,
        ..spec.clone()
    };
    let digest = Sha256::digest(serde_json::to_vec(&spec).unwrap_or_default());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_a_change() {
    let of = |spec: serde_json::Value| revision(&serde_json::from_value(spec).expect("a spec"));
    let spec = || serde_json::json!({"framework": "generic", "command": ["t"], "image": "a"});
    let with = |field: &str, value: serde_json::Value| {
        let mut spec = spec();
        spec[field] = value;
        of(spec)
    };
    let before = of(spec());
    for (field, value) in
        [("suspend", true.into()), ("retries", 9.into()), ("deadline", "1h".into())]
    {
        assert_eq!(with(field, value), before, "{field}");
    }
    assert_ne!(with("image", "b".into()), before);
    assert_eq!(with("priority", 7.into()), before);
    assert_ne!(with("queue", "q".into()), before);
    let memory = Memory { workers: 2, ..Memory::new(Duration::from_secs(1)) };
    assert_eq!(Memory::parse(&memory.to_text()), Ok(memory));
}
