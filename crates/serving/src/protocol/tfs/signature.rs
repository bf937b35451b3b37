//! A model's signature as TensorFlow Serving describes it.

use std::collections::BTreeMap;

use super::data_type;
use super::model_spec::SIGNATURE;
use crate::protocol::grpc::tensorflow::serving::SignatureDefMap;
use crate::protocol::grpc::tensorflow::tensor_shape_proto::Dim;
use crate::protocol::grpc::tensorflow::{SignatureDef, TensorInfo, TensorShapeProto};
use crate::signature::{Signature, TensorSpec};

/// The method of a signature that takes and gives tensors.
const PREDICT: &str = "tensorflow/serving/predict";

/// The signatures of a model: one, with all inputs and outputs.
pub(crate) fn signature_defs(signature: &Signature) -> SignatureDefMap {
    let infos = |specs: &[TensorSpec]| -> BTreeMap<String, TensorInfo> {
        specs.iter().map(|spec| (spec.name.clone(), info(spec))).collect()
    };
    let definition = SignatureDef {
        inputs: infos(&signature.inputs),
        outputs: infos(&signature.outputs),
        method_name: PREDICT.to_owned(),
    };
    SignatureDefMap { signature_def: BTreeMap::from([(SIGNATURE.to_owned(), definition)]) }
}

fn info(spec: &TensorSpec) -> TensorInfo {
    let dim = |extent: &Option<usize>| Dim {
        size: extent.and_then(|extent| i64::try_from(extent).ok()).unwrap_or(-1),
        name: String::new(),
    };
    TensorInfo {
        name: spec.name.clone(),
        dtype: data_type::to_tensorflow(spec.data_type).into(),
        tensor_shape: Some(TensorShapeProto {
            dim: spec.dims.iter().map(dim).collect(),
            unknown_rank: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    #[test]
    fn one_signature_with_all_tensors() {
        let spec = TensorSpec {
            name: "x".to_owned(),
            data_type: DataType::Fp32,
            dims: vec![None, Some(4)],
            optional: false,
            labels: Vec::new(),
        };
        let signature = Signature { inputs: vec![spec.clone()], outputs: vec![spec] };
        let map = signature_defs(&signature);
        let definition = &map.signature_def["serving_default"];
        assert_eq!(definition.method_name, "tensorflow/serving/predict");
        let shape = definition.inputs["x"].tensor_shape.as_ref().expect("given");
        assert_eq!(shape.dim.iter().map(|dim| dim.size).collect::<Vec<_>>(), [-1, 4]);
        assert_eq!(definition.inputs["x"].dtype, 1);
        assert_eq!(definition.outputs.len(), 1);
    }
}
