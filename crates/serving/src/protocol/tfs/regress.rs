//! Regress: one number for each example, from a model's output.
//!
//! The output is the one named `outputs`, as TensorFlow's own signatures call it, else the only
//! floating-point one of shape `[batch]` or `[batch, 1]`.

use super::classify::{describe, output};
use super::floats::{floats, is_float};
use super::methods::Reader;
use crate::error::InferError;
use crate::protocol::grpc::tensorflow::serving::{Regression, RegressionResult};
use crate::request::InferResponse;
use crate::signature::{Signature, TensorSpec};

/// Which output a regression is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Regressor {
    output: String,
}

impl Regressor {
    /// Chooses the output, or says which a model would need.
    pub(crate) fn of(signature: &Signature) -> Result<Self, InferError> {
        let fits = |spec: &&TensorSpec| {
            let one_each = matches!(spec.dims.as_slice(), [_] | [_, None | Some(1)]);
            is_float(spec.data_type) && one_each
        };
        let fitting: Vec<_> = signature.outputs.iter().filter(fits).collect();
        let named = fitting.iter().find(|spec| spec.name == "outputs");
        match (named, fitting.as_slice()) {
            (Some(spec), _) | (None, [spec]) => Ok(Self { output: spec.name.clone() }),
            _ => Err(InferError::Invalid(format!(
                "this model cannot regress: it needs one floating-point output of shape [batch] \
                 or [batch, 1], or one such named 'outputs'; its outputs: {}",
                describe(&signature.outputs)
            ))),
        }
    }
}

impl Reader for Regressor {
    type Result = RegressionResult;

    fn outputs(&self) -> Vec<String> {
        vec![self.output.clone()]
    }

    /// Reads the number of each example.
    fn read(
        &self,
        response: &InferResponse,
        examples: usize,
    ) -> Result<RegressionResult, InferError> {
        let tensor = output(response, &self.output)?;
        let values = floats(tensor).filter(|values| values.len() == examples);
        let values = values.ok_or_else(|| {
            InferError::Invalid(format!(
                "output '{}' has shape {:?}, expected one number for each of {examples} examples",
                self.output,
                tensor.shape()
            ))
        })?;
        let regressions = values.into_iter().map(|value| Regression { value }).collect();
        Ok(RegressionResult { regressions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    fn spec(name: &str, data_type: DataType, dims: &[Option<usize>]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            data_type,
            dims: dims.to_vec(),
            optional: false,
            labels: Vec::new(),
        }
    }

    #[test]
    fn chooses_the_output() {
        use DataType::{Fp32, Fp64, Int64};
        check(&[spec("variable", Fp32, &[None, Some(1)])], Ok("variable"));
        check(&[spec("label", Int64, &[None]), spec("y", Fp64, &[None])], Ok("y"));
        check(&[spec("a", Fp32, &[None]), spec("outputs", Fp32, &[None])], Ok("outputs"));
        check(&[spec("a", Fp32, &[None]), spec("b", Fp32, &[None])], Err("'a' FP32 [?], 'b' FP32"));
        check(&[spec("y", Fp32, &[None, Some(3)])], Err("'y' FP32 [?, 3]"));
    }

    #[track_caller]
    fn check(outputs: &[TensorSpec], expected: Result<&str, &str>) {
        let signature = Signature { inputs: Vec::new(), outputs: outputs.to_vec() };
        match (Regressor::of(&signature), expected) {
            (Ok(found), Ok(name)) => assert_eq!(found.outputs(), [name]),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }
}
