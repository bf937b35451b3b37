//! TensorFlow's element types.

use crate::error::InferError;
use crate::protocol::grpc::tensorflow::DataType as TfType;
use crate::tensor::DataType;

/// TensorFlow's type with the same elements.
pub(crate) const fn to_tensorflow(data_type: DataType) -> TfType {
    match data_type {
        DataType::Bool => TfType::DtBool,
        DataType::Uint8 => TfType::DtUint8,
        DataType::Uint16 => TfType::DtUint16,
        DataType::Uint32 => TfType::DtUint32,
        DataType::Uint64 => TfType::DtUint64,
        DataType::Int8 => TfType::DtInt8,
        DataType::Int16 => TfType::DtInt16,
        DataType::Int32 => TfType::DtInt32,
        DataType::Int64 => TfType::DtInt64,
        DataType::Fp16 => TfType::DtHalf,
        DataType::Bf16 => TfType::DtBfloat16,
        DataType::Fp32 => TfType::DtFloat,
        DataType::Fp64 => TfType::DtDouble,
        DataType::Bytes => TfType::DtString,
    }
}

/// Our type with the same elements. TensorFlow's quantized, complex and resource types have none.
pub(crate) fn from_tensorflow(number: i32) -> Result<DataType, InferError> {
    let given = TfType::try_from(number).ok();
    let found = DataType::ALL.into_iter().find(|ours| Some(to_tensorflow(*ours)) == given);
    found.ok_or_else(|| {
        let name = given.map_or_else(|| number.to_string(), |given| given.as_str_name().to_owned());
        let known: Vec<&str> =
            DataType::ALL.into_iter().map(|ours| to_tensorflow(ours).as_str_name()).collect();
        InferError::Invalid(format!("dtype {name} is not supported, expected {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_both_ways() {
        for data_type in DataType::ALL {
            let number = to_tensorflow(data_type).into();
            assert_eq!(from_tensorflow(number).expect("known"), data_type);
        }
    }

    #[test]
    fn types_without_an_equal() {
        for (number, name) in [(0, "DT_INVALID"), (8, "DT_COMPLEX64"), (101, "101"), (-1, "-1")] {
            let error = from_tensorflow(number).expect_err("no equal").to_string();
            assert!(error.contains(name) && error.contains("DT_FLOAT"), "{error}");
        }
    }
}
