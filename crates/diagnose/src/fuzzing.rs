//! What the fuzz target does: reads any bytes as a snapshot, takes secrets out, runs all diagnoses,
//! and looks for moves.

use serde_json::Value;
use trainyard_packing::Policy;

use crate::{Focus, Moving, Snapshot, diagnose, occupancy, redact};

/// Diagnoses bytes of any origin; never panics.
pub fn doctor(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    any(value);
}

/// The same for a value.
pub fn any(mut value: Value) {
    if let Some(objects) = value.get_mut("objects").and_then(Value::as_array_mut) {
        objects.iter_mut().for_each(redact::object);
    }
    let Ok(mut snapshot) = Snapshot::read(vec![value]) else { return };
    snapshot.sort();
    let answer = diagnose(&snapshot, &Focus::default());
    for finding in &answer.findings {
        for evidence in &finding.evidence {
            let _ = evidence.to_string();
        }
    }
    let Ok(seen) = occupancy(&snapshot, Moving::Jobs) else { return };
    let asked = seen.defrag(Policy::LeastStranding, 4);
    drop((asked.propose(), asked.prefer(0, 2), asked.nodes()));
}
