//! The forms in which outputs can be asked for.

use crate::Server;
use crate::error::InferError;
use crate::protocol::{classification, raw};
use crate::request::{InferResponse, VersionChoice};
use crate::shared_memory::{SharedMemory, Slice};
use crate::tensor::Tensor;

use super::parameters::{self, Parameters};

/// How one of the requested outputs is to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OutputForm {
    pub(crate) name: String,
    /// Reduced to this many classes.
    pub(crate) classes: Option<usize>,
    /// Written to shared memory instead of into the message.
    pub(crate) shared_memory: Option<Slice>,
}

impl OutputForm {
    /// Reads the parameters of a requested output.
    pub(crate) fn new(name: String, parameters: &Parameters<'_>) -> Result<Self, InferError> {
        let classes = parameters::classification(parameters)?;
        let shared_memory = parameters::shared_memory(&name, parameters)?;
        if classes.is_some() && shared_memory.is_some() {
            return Err(InferError::Invalid(format!(
                "shared memory can't be set on a \"classification\" output, '{name}' has both"
            )));
        }
        Ok(Self { name, classes, shared_memory })
    }
}

/// Reduces an output to its `count` best classes.
pub(crate) fn classes(
    response: &InferResponse,
    name: &str,
    tensor: &Tensor,
    count: usize,
    server: &Server,
) -> Result<Tensor, InferError> {
    let version = VersionChoice::Number(response.version);
    let metadata = server.metadata(&response.model, &version)?;
    let spec = metadata.signature.outputs.iter().find(|spec| spec.name == name);
    let labels = spec.map(|spec| spec.labels.as_slice()).unwrap_or_default();
    classification::classify(tensor, count, metadata.max_batch_size > 0, labels)
}

/// Writes an output to shared memory and returns the number of bytes written.
pub(crate) fn share(
    name: &str,
    tensor: &Tensor,
    slice: &Slice,
    shared_memory: &SharedMemory,
) -> Result<usize, InferError> {
    let contents = raw::encode(tensor);
    if contents.len() as u64 > slice.byte_size {
        return Err(InferError::Invalid(format!(
            "shared memory size specified with the request for output '{name}' ({} bytes) should \
             be at least {} bytes to hold the results",
            slice.byte_size,
            contents.len()
        )));
    }
    shared_memory.write(slice, &contents)?;
    Ok(contents.len())
}
