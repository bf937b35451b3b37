//! Whether a request fits the model it is for. The texts are those that Triton's users know.

use super::fit::show;
use super::version::ServingVersion;
use crate::error::InferError;
use crate::request::InferRequest;
use crate::scheduler::Job;
use crate::signature::TensorSpec;
use crate::tensor::Tensor;

impl ServingVersion {
    /// Makes a job of a request, or says what does not fit.
    pub(super) fn check(&self, request: InferRequest) -> Result<Job, InferError> {
        let specs = &self.signature.inputs;
        let mut inputs: Vec<Option<Tensor>> = Vec::with_capacity(specs.len());
        inputs.resize_with(specs.len(), || None);
        let mut rows = None;
        for (position, (name, tensor)) in request.inputs.into_iter().enumerate() {
            // Clients mostly send inputs in the model's order, which saves the search.
            let index = match specs.get(position) {
                Some(spec) if spec.name == name => Some(position),
                _ => specs.iter().position(|spec| spec.name == name),
            };
            let found = index.and_then(|index| {
                Some((specs.get(index)?, inputs.get_mut(index)?, self.inputs.get(index)?))
            });
            let Some((spec, slot, reshaping)) = found else {
                return Err(self.unknown("input", &name, specs));
            };
            if slot.is_some() {
                return Err(InferError::Invalid(format!(
                    "input '{name}' already exists in request for model '{}'",
                    self.model
                )));
            }
            self.check_tensor(spec, &tensor)?;
            if self.max_batch_size > 0 && !tensor.shape().is_empty() {
                self.check_rows(&mut rows, spec, &tensor)?;
            }
            *slot = Some(match reshaping {
                Some(reshaping) => reshaping.apply(tensor)?,
                None => tensor,
            });
        }
        if inputs.iter().zip(specs).any(|(given, spec)| given.is_none() && !spec.optional) {
            return Err(self.missing(&inputs));
        }
        Ok(Job {
            inputs,
            outputs: self.outputs_wanted(&request.outputs)?,
            rows: rows.unwrap_or(1),
            priority: request.priority,
            queue_timeout: request.queue_timeout,
            deadline: request.deadline,
        })
    }

    fn check_tensor(&self, spec: &TensorSpec, tensor: &Tensor) -> Result<(), InferError> {
        if tensor.data_type() != spec.data_type {
            return Err(InferError::Invalid(format!(
                "inference input '{}' data-type is '{}', but model '{}' expects '{}'",
                spec.name,
                tensor.data_type().oip_name(),
                self.model,
                spec.data_type.oip_name()
            )));
        }
        let shape = tensor.shape();
        let fits = shape.len() == spec.dims.len()
            && shape.iter().zip(&spec.dims).all(|(extent, dim)| dim.is_none_or(|it| it == *extent));
        if fits {
            return Ok(());
        }
        let given: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
        let hint = if self.max_batch_size > 0 && shape.len() + 1 == spec.dims.len() {
            "; the first dimension is the batch"
        } else {
            ""
        };
        Err(InferError::Invalid(format!(
            "unexpected shape for input '{}' for model '{}'. Expected {}, got {}{hint}",
            spec.name,
            self.model,
            show(&spec.dims),
            show(&given)
        )))
    }

    /// All inputs have the same number of rows, within the configured limit.
    fn check_rows(
        &self,
        known: &mut Option<usize>,
        spec: &TensorSpec,
        tensor: &Tensor,
    ) -> Result<(), InferError> {
        let rows = tensor.shape().first().copied().unwrap_or(1);
        if let Some(most) = self.row_limit.filter(|most| rows > *most) {
            return Err(InferError::Invalid(format!(
                "inference request batch-size must be <= {most} for '{}', got {rows}",
                self.model
            )));
        }
        match known.replace(rows) {
            Some(before) if before != rows => Err(InferError::Invalid(format!(
                "input '{}' batch size does not match other inputs for '{}': {rows}, not {before}",
                spec.name, self.model
            ))),
            _ => Ok(()),
        }
    }

    fn outputs_wanted(&self, names: &[String]) -> Result<Vec<usize>, InferError> {
        if names.is_empty() {
            return Ok(self.every_output.clone());
        }
        let specs = &self.signature.outputs;
        let mut wanted = Vec::with_capacity(names.len());
        for name in names {
            let index = specs
                .iter()
                .position(|spec| spec.name == *name)
                .ok_or_else(|| self.unknown("output", name, specs))?;
            if wanted.contains(&index) {
                return Err(InferError::Invalid(format!(
                    "output '{name}' is requested twice for model '{}'",
                    self.model
                )));
            }
            wanted.push(index);
        }
        Ok(wanted)
    }

    fn unknown(&self, kind: &str, name: &str, specs: &[TensorSpec]) -> InferError {
        InferError::Invalid(format!(
            "unexpected inference {kind} '{name:.200}' for model '{}', expected {}",
            self.model,
            list(specs.iter().map(|spec| spec.name.as_str()))
        ))
    }

    fn missing(&self, inputs: &[Option<Tensor>]) -> InferError {
        let specs = &self.signature.inputs;
        let pairs = || specs.iter().zip(inputs);
        let given = pairs().filter(|(_, tensor)| tensor.is_some());
        let missing = pairs().filter(|(spec, tensor)| tensor.is_none() && !spec.optional);
        InferError::Invalid(format!(
            "expected {} inputs but got {} inputs for model '{}'. Got input(s) {}, but missing \
             required input(s) {}. Please provide all required input(s).",
            specs.len(),
            given.clone().count(),
            self.model,
            list(given.map(|(spec, _)| spec.name.as_str())),
            list(missing.map(|(spec, _)| spec.name.as_str())),
        ))
    }
}

/// `['a','b']`, as Triton lists names.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    format!("[{}]", quoted.join(","))
}
