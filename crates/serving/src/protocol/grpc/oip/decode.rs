//! From a `ModelInferRequest` to an [`InferRequest`].

use std::time::Instant;

use bytes::Bytes;

use super::super::inference::ModelInferRequest;
use super::super::inference::model_infer_request::InferInputTensor;
use super::contents;
use super::parameters::shared;
use crate::error::InferError;
use crate::protocol::oip::output::OutputForm;
use crate::protocol::oip::parameters;
use crate::protocol::raw;
use crate::request::{InferRequest, VersionChoice};
use crate::shared_memory::SharedMemory;
use crate::tensor::{DataType, Shape, Tensor};

/// A request, and what its answer needs to know of it.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) request: InferRequest,
    pub(super) outputs: Vec<OutputForm>,
}

/// Decodes a request. Raw tensors stay slices of the message.
pub(super) fn decode(
    message: ModelInferRequest,
    shared_memory: &SharedMemory,
    deadline: Option<Instant>,
) -> Result<Decoded, InferError> {
    let settings = parameters::request(&shared(&message.parameters))?;
    let version = version(&message.model_version);

    let uses_raw = !message.raw_input_contents.is_empty();
    let mut raw_contents = message.raw_input_contents.into_iter();
    let mut inputs = Vec::with_capacity(message.inputs.len());
    for mut input in message.inputs {
        let name = std::mem::take(&mut input.name);
        let source = Source { model: &message.model_name, name: &name, shared_memory, uses_raw };
        let tensor = source.tensor(input, &mut raw_contents)?;
        inputs.push((name, tensor));
    }

    let mut outputs = Vec::with_capacity(message.outputs.len());
    for output in message.outputs {
        outputs.push(OutputForm::new(output.name, &shared(&output.parameters))?);
    }
    let request = InferRequest {
        model: message.model_name,
        version,
        inputs,
        outputs: outputs.iter().map(|output| output.name.clone()).collect(),
        priority: settings.priority,
        queue_timeout: settings.queue_timeout,
        deadline,
    };
    Ok(Decoded { request, outputs })
}

/// Reads a version: empty or -1 leaves the choice to the model's policy, and what is not a number
/// is a label.
pub(super) fn version(text: &str) -> VersionChoice {
    match (text, text.parse()) {
        ("" | "-1", _) => VersionChoice::Latest,
        (_, Ok(number)) => VersionChoice::Number(number),
        (_, Err(_)) => VersionChoice::Label(text.to_owned()),
    }
}

/// Where the elements of one input come from.
struct Source<'a> {
    model: &'a str,
    name: &'a str,
    shared_memory: &'a SharedMemory,
    /// Whether the message holds raw contents, which excludes typed ones.
    uses_raw: bool,
}

impl Source<'_> {
    fn tensor(
        &self,
        input: InferInputTensor,
        raw_contents: &mut impl Iterator<Item = Bytes>,
    ) -> Result<Tensor, InferError> {
        let data_type = self.data_type(&input.datatype)?;
        let shape = self.shape(&input.shape)?;
        if let Some(slice) = parameters::shared_memory(self.name, &shared(&input.parameters))? {
            if input.contents.is_some() {
                return Err(self.error(&"unexpected 'content' provided when using shared memory"));
            }
            return self.raw(data_type, shape, self.shared_memory.read(&slice)?);
        }
        match input.contents {
            Some(_) if self.uses_raw => Err(InferError::Invalid(format!(
                "contents field must not be specified when using raw_input_contents for '{}' for \
                 model '{}'",
                self.name, self.model
            ))),
            Some(contents) => contents::decode(self.model, self.name, data_type, shape, contents),
            None => {
                // Entries map in order to the inputs that are not in shared memory.
                let raw = raw_contents.next().ok_or_else(|| {
                    InferError::Invalid(format!(
                        "unable to find data for input tensor '{}' for model '{}' in request.",
                        self.name, self.model
                    ))
                })?;
                self.raw(data_type, shape, raw)
            }
        }
    }

    fn raw(&self, data_type: DataType, shape: Shape, raw: Bytes) -> Result<Tensor, InferError> {
        raw::decode(data_type, shape, raw).map_err(|error| self.error(&error))
    }

    fn data_type(&self, name: &str) -> Result<DataType, InferError> {
        DataType::from_oip_name(name).ok_or_else(|| {
            let known: Vec<&str> = DataType::ALL.into_iter().map(DataType::oip_name).collect();
            self.error(&format!("datatype '{name}' is not known, expected {}", known.join(", ")))
        })
    }

    fn shape(&self, extents: &[i64]) -> Result<Shape, InferError> {
        let extent = |extent: &i64| {
            usize::try_from(*extent).map_err(|_| {
                self.error(&format!("shape {extents:?} has the extent {extent}, expected >= 0"))
            })
        };
        extents.iter().map(extent).collect()
    }

    fn error(&self, problem: &dyn std::fmt::Display) -> InferError {
        InferError::Invalid(format!(
            "input tensor '{}' for model '{}': {problem}",
            self.name, self.model
        ))
    }
}
