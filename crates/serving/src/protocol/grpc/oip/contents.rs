//! Typed contents: the elements of a tensor in the repeated field that fits its datatype.

use bytes::Bytes;

use super::super::inference::InferTensorContents;
use crate::error::InferError;
use crate::protocol::narrow::{TooWide, narrow};
use crate::tensor::{Data, DataType, Shape, Tensor};

/// Builds the tensor of an input whose elements came as typed contents.
pub(super) fn decode(
    model: &str,
    input: &str,
    data_type: DataType,
    shape: Shape,
    contents: InferTensorContents,
) -> Result<Tensor, InferError> {
    if let Some(found) = misplaced(&contents, data_type) {
        return Err(InferError::Invalid(format!(
            "unexpected explicit tensor data for input tensor '{input}' for model '{model}' of \
             type '{found}', expected datatype '{}'",
            data_type.oip_name()
        )));
    }
    let context = |error: &dyn std::fmt::Display| {
        InferError::Invalid(format!("input tensor '{input}' for model '{model}': {error}"))
    };
    let too_wide = |TooWide { index, value }| {
        context(&format!("element {index} is {value}, which {} cannot hold", data_type.oip_name()))
    };
    let tensor = match data_type {
        DataType::Bool => {
            let bytes: Vec<u8> = contents.bool_contents.into_iter().map(u8::from).collect();
            Tensor::new(data_type, shape, Data::Fixed(Bytes::from(bytes)))
        }
        DataType::Int8 => {
            let elements = narrow::<i8, i32>(contents.int_contents).map_err(too_wide)?;
            Tensor::from_vec(data_type, shape, elements)
        }
        DataType::Int16 => {
            let elements = narrow::<i16, i32>(contents.int_contents).map_err(too_wide)?;
            Tensor::from_vec(data_type, shape, elements)
        }
        DataType::Int32 => Tensor::from_vec(data_type, shape, contents.int_contents),
        DataType::Int64 => Tensor::from_vec(data_type, shape, contents.int64_contents),
        DataType::Uint8 => {
            let elements = narrow::<u8, u32>(contents.uint_contents).map_err(too_wide)?;
            Tensor::from_vec(data_type, shape, elements)
        }
        DataType::Uint16 => {
            let elements = narrow::<u16, u32>(contents.uint_contents).map_err(too_wide)?;
            Tensor::from_vec(data_type, shape, elements)
        }
        DataType::Uint32 => Tensor::from_vec(data_type, shape, contents.uint_contents),
        DataType::Uint64 => Tensor::from_vec(data_type, shape, contents.uint64_contents),
        DataType::Fp32 => Tensor::from_vec(data_type, shape, contents.fp32_contents),
        DataType::Fp64 => Tensor::from_vec(data_type, shape, contents.fp64_contents),
        DataType::Bytes => Tensor::new(data_type, shape, Data::Bytes(contents.bytes_contents)),
        DataType::Fp16 | DataType::Bf16 => {
            return Err(context(&format!(
                "{} has no typed contents in this protocol: send it in raw_input_contents",
                data_type.oip_name()
            )));
        }
    };
    tensor.map_err(|error| context(&error))
}

/// Name of the type whose field holds elements although the datatype is another.
fn misplaced(contents: &InferTensorContents, data_type: DataType) -> Option<&'static str> {
    use DataType::{
        Bool, Bytes, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
    };
    let fields: [(bool, &[DataType]); 8] = [
        (contents.bool_contents.is_empty(), &[Bool]),
        (contents.int_contents.is_empty(), &[Int32, Int16, Int8]),
        (contents.int64_contents.is_empty(), &[Int64]),
        (contents.uint_contents.is_empty(), &[Uint32, Uint16, Uint8]),
        (contents.uint64_contents.is_empty(), &[Uint64]),
        (contents.fp32_contents.is_empty(), &[Fp32]),
        (contents.fp64_contents.is_empty(), &[Fp64]),
        (contents.bytes_contents.is_empty(), &[Bytes]),
    ];
    let wrong = fields.iter().find(|(empty, types)| !empty && !types.contains(&data_type))?;
    wrong.1.first().map(|found| found.oip_name())
}
