//! Classify: scores and labels of each example, from a model's outputs.
//!
//! The scores are the output named `scores`, else the one that has labels, else the only
//! floating-point output of shape `[batch, classes]`. The labels are the strings of the output named
//! `classes`, else those that the model's configuration or its own `ZipMap` gives, else the strings
//! of an output with the same shape, else the index of the class.

use super::floats::{floats, is_float};
use super::methods::Reader;
use crate::error::InferError;
use crate::protocol::grpc::tensorflow::serving::{Class, ClassificationResult, Classifications};
use crate::request::InferResponse;
use crate::signature::{Signature, TensorSpec};
use crate::tensor::{Data, DataType, Tensor};

/// Which outputs a classification is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classifier {
    scores: String,
    labels: Labels,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Labels {
    /// Strings of an output, for each example anew.
    Output(String),
    /// The same for all examples, in index order.
    Fixed(Vec<String>),
    Index,
}

impl Classifier {
    /// Chooses the outputs, or says which a model would need.
    pub(crate) fn of(signature: &Signature) -> Result<Self, InferError> {
        let outputs = &signature.outputs;
        let scores = scores(outputs)?;
        let strings = |spec: &&TensorSpec| spec.data_type == DataType::Bytes;
        let labels = if let Some(classes) =
            outputs.iter().filter(strings).find(|spec| spec.name == "classes")
        {
            Labels::Output(classes.name.clone())
        } else if !scores.labels.is_empty() {
            Labels::Fixed(scores.labels.clone())
        } else if let Some(classes) =
            outputs.iter().filter(strings).find(|spec| spec.dims.len() == scores.dims.len())
        {
            Labels::Output(classes.name.clone())
        } else {
            Labels::Index
        };
        Ok(Self { scores: scores.name.clone(), labels })
    }
}

impl Reader for Classifier {
    type Result = ClassificationResult;

    fn outputs(&self) -> Vec<String> {
        let mut names = vec![self.scores.clone()];
        if let Labels::Output(name) = &self.labels {
            names.push(name.clone());
        }
        names
    }

    /// Reads the classes of each example, in index order.
    fn read(
        &self,
        response: &InferResponse,
        examples: usize,
    ) -> Result<ClassificationResult, InferError> {
        let tensor = output(response, &self.scores)?;
        let wrong = || {
            InferError::Invalid(format!(
                "output '{}' has shape {:?}, expected one row of scores for each of {examples} \
                 examples",
                self.scores,
                tensor.shape()
            ))
        };
        if tensor.shape().first() != Some(&examples) || tensor.shape().len() > 2 {
            return Err(wrong());
        }
        let scores = floats(tensor).ok_or_else(wrong)?;
        let classes = scores.len().checked_div(examples).unwrap_or(0);
        let strings = match &self.labels {
            Labels::Output(name) => strings(output(response, name)?, scores.len()),
            _ => None,
        };
        let label = |row: usize, class: usize| -> String {
            let index = row.saturating_mul(classes).saturating_add(class);
            let found = match (&self.labels, strings) {
                (_, Some(strings)) => {
                    strings.get(index).map(|text| String::from_utf8_lossy(text).into_owned())
                }
                (Labels::Fixed(labels), None) => labels.get(class).cloned(),
                _ => None,
            };
            found.unwrap_or_else(|| class.to_string())
        };
        let mut classifications: Vec<Classifications> = scores
            .chunks(classes.max(1))
            .enumerate()
            .map(|(row, scores)| Classifications {
                classes: scores
                    .iter()
                    .enumerate()
                    .map(|(class, score)| Class { label: label(row, class), score: *score })
                    .collect(),
            })
            .collect();
        // A model without classes still has one answer for each example.
        classifications.resize(examples, Classifications::default());
        Ok(ClassificationResult { classifications })
    }
}

fn scores(outputs: &[TensorSpec]) -> Result<&TensorSpec, InferError> {
    let candidates = || outputs.iter().filter(|spec| is_float(spec.data_type));
    if let Some(named) = candidates().find(|spec| spec.name == "scores") {
        return Ok(named);
    }
    let labelled: Vec<_> = candidates().filter(|spec| !spec.labels.is_empty()).collect();
    if let [only] = labelled.as_slice() {
        return Ok(only);
    }
    let rows: Vec<_> = candidates().filter(|spec| spec.dims.len() == 2).collect();
    match rows.as_slice() {
        [only] => Ok(only),
        _ => Err(InferError::Invalid(format!(
            "this model cannot classify: it needs one floating-point output of shape \
             [batch, classes], or one named 'scores'; its outputs: {}",
            describe(outputs)
        ))),
    }
}

fn strings(tensor: &Tensor, count: usize) -> Option<&[bytes::Bytes]> {
    match tensor.data() {
        Data::Bytes(elements) if elements.len() == count => Some(elements),
        _ => None,
    }
}

/// An output that was asked for.
pub(super) fn output<'a>(
    response: &'a InferResponse,
    name: &str,
) -> Result<&'a Tensor, InferError> {
    let found = response.outputs.iter().find(|(output, _)| **output == *name);
    found.map(|(_, tensor)| tensor).ok_or_else(|| {
        InferError::Internal(format!("the model gave no output '{name}', which was asked for"))
    })
}

/// Outputs with type and shape, for messages.
pub(super) fn describe(outputs: &[TensorSpec]) -> String {
    let one = |spec: &TensorSpec| {
        let extent = |extent: &Option<usize>| extent.map_or("?".to_owned(), |e| e.to_string());
        let dims: Vec<String> = spec.dims.iter().map(extent).collect();
        format!("'{}' {} [{}]", spec.name, spec.data_type.oip_name(), dims.join(", "))
    };
    outputs.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use smallvec::smallvec;

    use super::*;
    use crate::request::{BatchClose, Execution};

    fn spec(name: &str, data_type: DataType, rank: usize, labels: &[&str]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            data_type,
            dims: vec![None; rank],
            optional: false,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    fn classifier(outputs: &[TensorSpec]) -> Result<Classifier, InferError> {
        Classifier::of(&Signature { inputs: Vec::new(), outputs: outputs.to_vec() })
    }

    #[test]
    fn chooses_outputs() {
        use DataType::{Bytes, Fp32, Int64};
        let output = |name: &str| Labels::Output(name.to_owned());
        check(&[spec("y", Fp32, 2, &[])], Ok(("y", Labels::Index)));
        check(
            &[spec("label", Int64, 1, &[]), spec("probabilities", Fp32, 2, &["a", "b"])],
            Ok(("probabilities", Labels::Fixed(vec!["a".to_owned(), "b".to_owned()]))),
        );
        check(
            &[
                spec("classes", Bytes, 2, &[]),
                spec("scores", Fp32, 2, &["a"]),
                spec("z", Fp32, 2, &[]),
            ],
            Ok(("scores", output("classes"))),
        );
        check(&[spec("names", Bytes, 2, &[]), spec("p", Fp32, 2, &[])], Ok(("p", output("names"))));
        check(&[spec("best", Bytes, 1, &[]), spec("p", Fp32, 2, &[])], Ok(("p", Labels::Index)));
        check(
            &[spec("a", Fp32, 2, &[]), spec("b", Fp32, 2, &[])],
            Err("'a' FP32 [?, ?], 'b' FP32"),
        );
        check(&[spec("y", Int64, 2, &[])], Err("'y' INT64"));
    }

    #[track_caller]
    fn check(outputs: &[TensorSpec], expected: Result<(&str, Labels), &str>) {
        match (classifier(outputs), expected) {
            (Ok(found), Ok((scores, labels))) => {
                assert_eq!(found, Classifier { scores: scores.to_owned(), labels });
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    fn response(outputs: Vec<(&str, Tensor)>) -> InferResponse {
        InferResponse {
            model: Arc::from("m"),
            version: 1,
            outputs: outputs.into_iter().map(|(name, tensor)| (Arc::from(name), tensor)).collect(),
            execution: Execution {
                queue: Duration::ZERO,
                compute: Duration::ZERO,
                batch_size: 1,
                close: BatchClose::Unbatched,
            },
        }
    }

    fn classes(result: &ClassificationResult) -> Vec<Vec<(&str, f32)>> {
        result
            .classifications
            .iter()
            .map(|row| {
                row.classes.iter().map(|class| (class.label.as_str(), class.score)).collect()
            })
            .collect()
    }

    #[test]
    fn reads_rows() {
        let scores =
            Tensor::from_vec(DataType::Fp32, smallvec![2, 2], vec![0.25f32, 0.75, 1.0, 0.0]);
        let scores = scores.expect("fits");
        let fixed = classifier(&[spec("y", DataType::Fp32, 2, &["no"])]).expect("fits");
        let result = fixed.read(&response(vec![("y", scores.clone())]), 2).expect("reads");
        assert_eq!(
            classes(&result),
            [[("no", 0.25), ("1", 0.75)], [("no", 1.0), ("1", 0.0)]],
            "a class without a label has its index"
        );

        let names = ["a", "b", "c", "d"].map(|name| Bytes::from_static(name.as_bytes())).to_vec();
        let names = Tensor::new(DataType::Bytes, smallvec![2, 2], Data::Bytes(names));
        let outputs = [spec("y", DataType::Fp32, 2, &[]), spec("classes", DataType::Bytes, 2, &[])];
        let strings = classifier(&outputs).expect("fits");
        assert_eq!(strings.outputs(), ["y", "classes"]);
        let both = response(vec![("y", scores.clone()), ("classes", names.expect("fits"))]);
        let result = strings.read(&both, 2).expect("reads");
        assert_eq!(classes(&result), [[("a", 0.25), ("b", 0.75)], [("c", 1.0), ("d", 0.0)]]);

        let error = fixed.read(&response(vec![("y", scores)]), 3).expect_err("three examples");
        assert!(error.to_string().contains("[2, 2]"), "{error}");
    }
}
