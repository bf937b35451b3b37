//! One version that is loaded, and the table in which requests find it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::description::ModelMetadata;
use super::fit::Reshaping;
use super::info::Tags;
use crate::config::ReadConfig;
use crate::error::InferError;
use crate::repository::{Fingerprint, Upload};
use crate::request::{InferRequest, InferResponse};
use crate::scheduler::Scheduler;
use crate::signature::Signature;

/// What Triton calls this kind of model.
pub(super) const PLATFORM: &str = "onnxruntime_onnx";

/// A version that is ready to serve.
pub(super) struct ServingVersion {
    pub(super) model: Arc<str>,
    pub(super) number: u64,
    /// As clients see it.
    pub(super) signature: Arc<Signature>,
    /// By index of the input, where the model's shape differs.
    pub(super) inputs: Vec<Option<Reshaping>>,
    pub(super) outputs: Vec<ServedOutput>,
    /// The index of each output.
    pub(super) every_output: Vec<usize>,
    /// Most batch elements in one execution; 0 for a model that has no batch dimension.
    pub(super) max_batch_size: usize,
    /// Most batch elements in one request, where the configuration says so.
    pub(super) row_limit: Option<usize>,
    pub(super) scheduler: Scheduler,
    /// Triton's configuration with everything filled in.
    pub(super) config: serde_json::Value,
    pub(super) notes: Vec<(String, String)>,
    pub(super) identity: Identity,
    /// Keeps the series of the model's tags.
    pub(super) _tags: Tags,
}

/// One output as it is answered.
pub(super) struct ServedOutput {
    pub(super) name: Arc<str>,
    /// From the model's shape to clients'.
    pub(super) reshaping: Option<Reshaping>,
}

/// What a version was loaded from; equal means that loading it again changes nothing.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) files: Fingerprint,
    pub(super) config: Arc<ReadConfig>,
    /// Also keeps the files, which an engine may read at any time.
    pub(super) upload: Option<Arc<Upload>>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let same_upload = match (&self.upload, &other.upload) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        };
        same_upload && self.files == other.files && self.config.config == other.config.config
    }
}

impl ServingVersion {
    /// Checks and runs one request.
    pub(super) async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        let all = request.outputs.is_empty();
        let job = self.check(request)?;
        let wanted = if all { Vec::new() } else { job.outputs.clone() };
        let done = self.scheduler.run(job).await?;

        let mut outputs = Vec::with_capacity(done.outputs.len());
        for (position, tensor) in done.outputs.into_iter().enumerate() {
            let index = wanted.get(position).copied().unwrap_or(position);
            let Some(output) = self.outputs.get(index) else { continue };
            let tensor = match &output.reshaping {
                Some(reshaping) => reshaping.apply(tensor)?,
                None => tensor,
            };
            outputs.push((output.name.clone(), tensor));
        }
        Ok(InferResponse {
            model: self.model.clone(),
            version: self.number,
            outputs,
            execution: done.execution,
        })
    }

    pub(super) fn metadata(&self, versions: Vec<u64>) -> ModelMetadata {
        ModelMetadata {
            name: self.model.clone(),
            version: self.number,
            versions,
            platform: PLATFORM,
            signature: self.signature.clone(),
            max_batch_size: self.max_batch_size,
            notes: self.notes.clone(),
        }
    }
}

/// The models that serve now, by name. Replaced as a whole, never changed.
pub(super) type Table = HashMap<Arc<str>, ServingModel>;

/// The versions of one model that serve now.
#[derive(Clone, Default)]
pub(super) struct ServingModel {
    /// Ascending by number, never empty.
    pub(super) versions: Vec<Arc<ServingVersion>>,
    pub(super) labels: BTreeMap<String, u64>,
}

impl ServingModel {
    pub(super) fn find(&self, number: u64) -> Option<&Arc<ServingVersion>> {
        self.versions.iter().find(|version| version.number == number)
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.versions.iter().map(|version| version.number).collect()
    }
}
