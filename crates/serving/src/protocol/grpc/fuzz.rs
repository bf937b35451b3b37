//! Decoding of any message, for the fuzz targets.

use bytes::Bytes;
use prost::Message;

use super::inference::ModelInferRequest;
use super::oip;
use super::tensorflow::TensorProto;
use super::tensorflow::serving::{ClassificationRequest, PredictRequest, ReloadConfigRequest};
use crate::protocol::tfs::expansion::Expansion;
use crate::protocol::tfs::model_spec::Target;
use crate::protocol::tfs::{examples, reload, tensor_proto};
use crate::signature::{Signature, TensorSpec};
use crate::tensor::DataType;

/// What short forms may expand to: enough to matter, little enough to be quick.
const LIMIT: usize = 1 << 20;

/// Reads a message as one of those that come in.
pub(crate) fn message(choice: u8, bytes: Bytes) {
    match choice % 4 {
        0 => {
            if let Ok(message) = ModelInferRequest::decode(bytes) {
                oip::fuzz(message);
            }
        }
        1 => {
            if let Ok(message) = PredictRequest::decode(bytes) {
                let _ = Target::of(message.model_spec);
                let mut expansion = Expansion::new(LIMIT);
                for (name, tensor) in message.inputs {
                    survives(&name, tensor, &mut expansion);
                }
            }
        }
        2 => {
            if let Ok(message) = ClassificationRequest::decode(bytes) {
                let data_type = |index: u8| DataType::ALL.get(usize::from(index)).copied();
                let data_type = data_type(choice / 4 % 14).unwrap_or(DataType::Fp32);
                let _ = examples::stack(
                    &signature(data_type),
                    message.input,
                    &mut Expansion::new(LIMIT),
                );
            }
        }
        _ => {
            if let Ok(message) = ReloadConfigRequest::decode(bytes) {
                let _ = reload::wanted(message);
            }
        }
    }
}

/// A tensor that can be read can be written and read again, and is the same then.
fn survives(name: &str, message: TensorProto, expansion: &mut Expansion) {
    let Ok(tensor) = tensor_proto::decode(name, message, expansion) else { return };
    let written = tensor_proto::encode(&tensor);
    let again = tensor_proto::decode(name, written, &mut Expansion::new(0));
    // As bits, since a boolean of 2 is written as 1.
    let same = again.as_ref().is_ok_and(|again| again.shape() == tensor.shape());
    assert!(same, "{tensor:?} became {again:?}");
}

/// One input of each rank that examples can fill.
fn signature(data_type: DataType) -> Signature {
    let spec = |name: &str, dims: &[Option<usize>]| TensorSpec {
        name: name.to_owned(),
        data_type,
        dims: dims.to_vec(),
        optional: true,
        labels: Vec::new(),
    };
    let inputs = vec![
        spec("x", &[None, None]),
        spec("scalar", &[None]),
        spec("fixed", &[None, Some(2)]),
        spec("open", &[Some(1), None, Some(3)]),
    ];
    Signature { inputs, outputs: Vec::new() }
}
