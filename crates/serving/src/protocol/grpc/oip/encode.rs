//! From an [`InferResponse`] to a `ModelInferResponse`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::inference::infer_parameter::ParameterChoice;
use super::super::inference::model_infer_response::InferOutputTensor;
use super::super::inference::{InferParameter, ModelInferResponse};
use super::decode::OutputForm;
use super::parameters::Parameters;
use crate::Server;
use crate::error::InferError;
use crate::protocol::{classification, raw};
use crate::request::{InferResponse, VersionChoice};
use crate::shared_memory::{SharedMemory, Slice};
use crate::tensor::Tensor;

/// Encodes an answer. Every output is raw, whatever form the inputs had: all clients read that,
/// and the bytes go out as the engine made them.
pub(super) fn encode(
    response: InferResponse,
    id: String,
    forms: &[OutputForm],
    server: &Server,
    shared_memory: &SharedMemory,
) -> Result<ModelInferResponse, InferError> {
    let mut message = ModelInferResponse {
        model_name: response.model.as_ref().to_owned(),
        model_version: response.version.to_string(),
        id,
        parameters: BTreeMap::new(),
        outputs: Vec::with_capacity(response.outputs.len()),
        raw_output_contents: Vec::with_capacity(response.outputs.len()),
    };
    for (name, tensor) in &response.outputs {
        let form = forms.iter().find(|form| form.name == **name);
        let classes = match form.and_then(|form| form.classes) {
            Some(count) => Some(classes(&response, name, tensor, count, server)?),
            None => None,
        };
        let tensor = classes.as_ref().unwrap_or(tensor);
        let target = form.and_then(|form| form.shared_memory.as_ref());
        let (contents, parameters) = match target {
            Some(slice) => (Bytes::new(), write(name, tensor, slice, shared_memory)?),
            None => (raw::encode(tensor), BTreeMap::new()),
        };
        message.outputs.push(InferOutputTensor {
            name: name.as_ref().to_owned(),
            datatype: tensor.data_type().oip_name().to_owned(),
            shape: extents(tensor.shape()),
            parameters,
            contents: None,
        });
        message.raw_output_contents.push(contents);
    }
    Ok(message)
}

/// Extents as the wire has them.
fn extents(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|extent| i64::try_from(*extent).unwrap_or(i64::MAX)).collect()
}

fn classes(
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

/// Writes an output to shared memory and says where it is.
fn write(
    name: &str,
    tensor: &Tensor,
    slice: &Slice,
    shared_memory: &SharedMemory,
) -> Result<Parameters, InferError> {
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

    let mut parameters = Parameters::new();
    let mut insert = |key: &str, choice| {
        parameters.insert(key.to_owned(), InferParameter { parameter_choice: Some(choice) });
    };
    let number = |value: u64| ParameterChoice::Int64Param(i64::try_from(value).unwrap_or(i64::MAX));
    insert("shared_memory_region", ParameterChoice::StringParam(slice.region.clone()));
    insert("shared_memory_offset", number(slice.offset));
    insert("shared_memory_byte_size", number(contents.len() as u64));
    Ok(parameters)
}
