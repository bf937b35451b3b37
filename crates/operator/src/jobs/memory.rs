//! What an operator goes on from, as it stands in the status of a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use trainyard_api::training_job::TrainingJobSpec;
use trainyard_control::job::State;

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
}

impl Memory {
    /// Of a job that was just declared.
    pub(super) fn new(now: Duration) -> Self {
        Self { state: State::new(now), revision: String::new(), workers: 0, made: None, last: None }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
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
    let memory = Memory { workers: 2, ..Memory::new(Duration::from_secs(1)) };
    assert_eq!(Memory::parse(&memory.to_text()), Ok(memory));
}
