//! Reading a checkpoint in the store as a restore would, without writing anything.

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt};

use crate::error::CheckpointError;
use crate::lazily::lazily;
use crate::store::{Step, Store};

/// What is wrong with a checkpoint, and which of its files it hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    pub reason: String,
}

impl Store {
    /// Reads every byte of a checkpoint and compares it. None: it restores bit for bit.
    pub async fn verify(&self, step: &Step) -> Result<Vec<Fault>, CheckpointError> {
        let (there, of) = step.parts();
        if !step.is_complete() {
            let reason = format!("{there} of {of} workers have saved their part");
            return Ok(vec![Fault { file: "-".to_owned(), reason }]);
        }
        // Files share chunks; each is read once.
        let mut chunks: BTreeMap<(&str, u64), &str> = BTreeMap::new();
        for slice in step.parts.values().flat_map(|part| part.slices()) {
            chunks.entry((slice.sha256, slice.bytes)).or_insert(slice.path);
        }
        let reads = chunks.into_iter().map(|((sha256, bytes), path)| {
            async move {
                let read = self.chunk(sha256, bytes).await?;
                let fault = |reason| Fault { file: path.to_owned(), reason };
                Ok::<_, CheckpointError>(read.err().map(fault))
            }
            .boxed()
        });
        let faults: Vec<Option<Fault>> =
            lazily(reads).buffered(self.tuning.parallel).try_collect().await?;
        Ok(faults.into_iter().flatten().collect())
    }
}
