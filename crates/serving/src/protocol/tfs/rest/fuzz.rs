//! Decoding of any body, for the fuzz targets.

use std::sync::Arc;

use super::{examples, predict_request, predict_response};
use crate::protocol::tfs::expansion::Expansion;
use crate::signature::{Signature, TensorSpec};
use crate::tensor::DataType;

/// Reads the body of each method, for a model with one input of this type and for one with two, and
/// writes the inputs back as outputs.
pub(crate) fn fuzz(body: &[u8], data_type: DataType) {
    let spec = |name: &str, optional| TensorSpec {
        name: name.to_owned(),
        data_type,
        dims: vec![None, None],
        optional,
        labels: Vec::new(),
    };
    let one = Signature { inputs: vec![spec("x", false)], outputs: Vec::new() };
    let inputs = vec![spec("x", false), spec("y_bytes", true)];
    for signature in [one, Signature { inputs, outputs: Vec::new() }] {
        if let Ok((inputs, _)) = predict_request::parse(body, &signature) {
            let outputs: Vec<_> =
                inputs.into_iter().map(|(name, tensor)| (Arc::from(name), tensor)).collect();
            let _ = predict_response::rows(&outputs);
            let _ = predict_response::columns(&outputs);
        }
        if let Ok(input) = examples::parse(body) {
            let mut expansion = Expansion::new(1 << 16);
            let _ = super::super::examples::stack(&signature, Some(input), &mut expansion);
        }
    }
}
