//! Requests without JSON: the whole body is the one input of the model.

use bytes::Bytes;

use super::decode::Target;
use crate::error::InferError;
use crate::protocol::raw;
use crate::request::{InferRequest, VersionChoice};
use crate::server::ModelMetadata;
use crate::tensor::{Data, DataType, Shape, Tensor};

/// Decodes a body that is all tensor, which its client says with a JSON length of 0. The shape is
/// the model's, with a batch of one, and the one extent that may be left open follows from the
/// number of bytes. A body of BYTES is one element, without the length in front.
pub(super) fn decode(
    body: &Bytes,
    target: Target,
    metadata: &ModelMetadata,
) -> Result<InferRequest, InferError> {
    let model = &target.model;
    let [input] = metadata.signature.inputs.as_slice() else {
        return Err(InferError::Invalid(format!(
            "a raw request (Inference-Header-Content-Length: 0) needs a model with one input, \
             model '{model}' has {}",
            metadata.signature.inputs.len()
        )));
    };
    let error = |problem: &dyn std::fmt::Display| {
        InferError::Invalid(format!("input tensor '{}' for model '{model}': {problem}", input.name))
    };

    let mut dims = input.dims.clone();
    if let (Some(batch), true) = (dims.first_mut(), metadata.max_batch_size > 0) {
        *batch = Some(1);
    }
    let data_type = input.data_type;
    let element = data_type.size().unwrap_or(1);
    let known = dims.iter().flatten().try_fold(element, |size, dim| size.checked_mul(*dim));
    let open = dims.iter().filter(|dim| dim.is_none()).count();
    let extent = match (open, known) {
        (0, _) => 0,
        (1, _) if data_type == DataType::Bytes => 1,
        (1, Some(size)) if size > 0 && body.len().is_multiple_of(size) => body.len() / size,
        (1, _) => {
            return Err(error(&format!("{} bytes do not fill the shape {dims:?}", body.len())));
        }
        _ => {
            let problem = "a raw request needs a model whose shape has one open extent at most";
            return Err(error(&problem));
        }
    };
    let shape: Shape = dims.iter().map(|dim| dim.unwrap_or(extent)).collect();
    let tensor = match data_type {
        DataType::Bytes => Tensor::new(data_type, shape, Data::Bytes(vec![body.clone()]))
            .map_err(|problem| error(&problem))?,
        _ => raw::decode(data_type, shape, body.clone()).map_err(|problem| error(&problem))?,
    };
    Ok(InferRequest {
        inputs: vec![(input.name.clone(), tensor)],
        model: target.model,
        // The shape was made for this version.
        version: VersionChoice::Number(metadata.version),
        deadline: target.deadline,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::signature::{Signature, TensorSpec};

    fn request(
        data_type: DataType,
        dims: &[Option<usize>],
        max_batch_size: usize,
        bytes: usize,
    ) -> Result<Vec<usize>, String> {
        let input = TensorSpec {
            name: "x".to_owned(),
            data_type,
            dims: dims.to_vec(),
            optional: false,
            labels: Vec::new(),
        };
        let metadata = ModelMetadata {
            name: "m".into(),
            version: 1,
            versions: vec![1],
            platform: "onnxruntime_onnx",
            signature: Arc::new(Signature { inputs: vec![input], outputs: Vec::new() }),
            max_batch_size,
            notes: Vec::new(),
        };
        let target =
            Target { model: "m".to_owned(), version: VersionChoice::Latest, deadline: None };
        match decode(&Bytes::from(vec![7; bytes]), target, &metadata) {
            Ok(request) => Ok(request.inputs[0].1.shape().to_vec()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn table() {
        let fp32 = DataType::Fp32;
        assert_eq!(request(fp32, &[None, Some(4)], 8, 16), Ok(vec![1, 4]));
        assert_eq!(request(fp32, &[None, None], 8, 12), Ok(vec![1, 3]));
        assert_eq!(request(fp32, &[None, Some(4)], 0, 48), Ok(vec![3, 4]));
        assert_eq!(request(fp32, &[Some(2)], 0, 8), Ok(vec![2]));
        assert_eq!(request(fp32, &[None], 0, 0), Ok(vec![0]));
        assert_eq!(request(DataType::Bytes, &[None, Some(1)], 4, 9), Ok(vec![1, 1]));
        assert_eq!(request(DataType::Bytes, &[None], 0, 0), Ok(vec![1]));
        for (dims, batch, bytes, says) in [
            (&[None, Some(4)][..], 8, 15, "needs 16 bytes, got 15"),
            (&[None, None], 0, 8, "one open extent at most"),
            (&[None, Some(4)], 0, 17, "17 bytes do not fill"),
            (&[None, Some(0)], 0, 8, "do not fill"),
        ] {
            let error = request(fp32, dims, batch, bytes).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
