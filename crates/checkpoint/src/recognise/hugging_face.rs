//! Hugging Face's Trainer: `checkpoint-N`, with `trainer_state.json` after the model, the optimizer
//! and the scheduler.

use std::io::{BufReader, Read};

use serde::de::IgnoredAny;

use super::Missing;
use crate::tree::Tree;

const STATE: &str = "trainer_state.json";
/// It holds the log of all steps, so it can be long.
const MAX_STATE_BYTES: u64 = 256 << 20;
/// What the trainer writes before it; each alone says that this is such a folder.
const EARLIER: [&str; 3] = ["training_args.bin", "scheduler.pt", "optimizer.pt"];

pub(super) fn check(tree: &Tree) -> Option<Result<(), Missing>> {
    if !tree.files.contains_key(STATE) {
        let is_trainer = EARLIER.iter().filter(|name| tree.files.contains_key(**name)).count() > 1;
        return is_trainer.then(|| Err(format!("`{STATE}`, which is written last, is not there")));
    }
    let read = tree.open(STATE).map_err(|error| error.to_string()).and_then(|file| {
        let reader = BufReader::new(file.take(MAX_STATE_BYTES));
        serde_json::from_reader::<_, IgnoredAny>(reader).map_err(|error| error.to_string())
    });
    Some(read.map(|_| ()).map_err(|error| format!("`{STATE}` is cut short: {error}")))
}
