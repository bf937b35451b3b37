//! From an [`InferResponse`] to a `ModelInferResponse`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::inference::infer_parameter::ParameterChoice;
use super::super::inference::model_infer_response::InferOutputTensor;
use super::super::inference::{InferParameter, ModelInferResponse};
use super::parameters::Parameters;
use crate::Server;
use crate::error::InferError;
use crate::protocol::oip::output::{self, OutputForm};
use crate::protocol::raw;
use crate::request::InferResponse;
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
            Some(count) => Some(output::classes(&response, name, tensor, count, server)?),
            None => None,
        };
        let tensor = classes.as_ref().unwrap_or(tensor);
        let target = form.and_then(|form| form.shared_memory.as_ref());
        let (contents, parameters) = match target {
            Some(slice) => (Bytes::new(), share(name, tensor, slice, shared_memory)?),
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

/// Writes an output to shared memory and says where it is.
fn share(
    name: &str,
    tensor: &Tensor,
    slice: &Slice,
    shared_memory: &SharedMemory,
) -> Result<Parameters, InferError> {
    let written = output::share(name, tensor, slice, shared_memory)?;

    let mut parameters = Parameters::new();
    let mut insert = |key: &str, choice| {
        parameters.insert(key.to_owned(), InferParameter { parameter_choice: Some(choice) });
    };
    let number = |value: u64| ParameterChoice::Int64Param(i64::try_from(value).unwrap_or(i64::MAX));
    insert("shared_memory_region", ParameterChoice::StringParam(slice.region.clone()));
    insert("shared_memory_offset", number(slice.offset));
    insert("shared_memory_byte_size", number(written as u64));
    Ok(parameters)
}
