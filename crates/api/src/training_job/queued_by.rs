//! `spec.queuedBy`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who says when a job of a queue may start: Trainyard's own `Queue`, a LocalQueue of Kueue in the
/// job's namespace, or a queue of the KAI scheduler or of Volcano.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum QueuedBy {
    Trainyard,
    Kueue,
    Kai,
    Volcano,
}
