//! `TensorProto`: raw bytes, or elements in the list of their type, the last standing for all that
//! are missing.

use bytes::Bytes;

use super::data_type;
use super::expansion::Expansion;
use crate::error::InferError;
use crate::protocol::grpc::tensorflow::tensor_shape_proto::Dim;
use crate::protocol::grpc::tensorflow::{TensorProto, TensorShapeProto};
use crate::protocol::narrow::{TooWide, narrow};
use crate::tensor::{Data, DataType, Shape, Tensor, element_count};

/// Reads the tensor of one input. Raw contents stay slices of the message.
pub(crate) fn decode(
    input: &str,
    message: TensorProto,
    expansion: &mut Expansion,
) -> Result<Tensor, InferError> {
    let wrap = |problem: String| InferError::Invalid(format!("input '{input}': {problem}"));
    let data_type =
        data_type::from_tensorflow(message.dtype).map_err(|error| wrap(error.to_string()))?;
    let shape = shape(message.tensor_shape.as_ref()).map_err(wrap)?;
    let count = element_count(&shape).ok_or_else(|| {
        wrap(format!("shape {shape:?} holds more elements than can be addressed"))
    })?;

    let given = Given::of(&message);
    let list = list_of(data_type);
    if let Some(other) = given.lists().find(|name| *name != list) {
        return Err(wrap(format!(
            "elements of {} belong in {list}, not in {other}",
            data_type::to_tensorflow(data_type).as_str_name()
        )));
    }
    if !message.tensor_content.is_empty() {
        return content(data_type, shape, &given, message.tensor_content).map_err(wrap);
    }
    let missing = count.checked_sub(given.count(list)).ok_or_else(|| {
        let values = given.count(list);
        wrap(format!("{list} has {values} values, but shape {shape:?} has {count} elements"))
    })?;
    expansion.add(missing, data_type)?;
    elements(data_type, shape, count, message).map_err(wrap)
}

/// Writes a tensor with its elements in the list of their type, which TensorFlow Serving does too:
/// clients read `float_val` and its like directly as often as they use `make_ndarray`.
pub(crate) fn encode(tensor: &Tensor) -> TensorProto {
    let mut message = TensorProto {
        dtype: data_type::to_tensorflow(tensor.data_type()).into(),
        tensor_shape: Some(shape_proto(tensor.shape())),
        ..Default::default()
    };
    let raw = match tensor.data() {
        Data::Fixed(raw) => raw,
        Data::Bytes(elements) => {
            message.string_val.clone_from(elements);
            return message;
        }
    };
    match tensor.data_type() {
        DataType::Bool => message.bool_val = read(raw, |[byte]: [u8; 1]| byte != 0),
        DataType::Uint8 => message.int_val = read(raw, |e| u8::from_le_bytes(e).into()),
        DataType::Int8 => message.int_val = read(raw, |e| i8::from_le_bytes(e).into()),
        DataType::Uint16 => message.int_val = read(raw, |e| u16::from_le_bytes(e).into()),
        DataType::Int16 => message.int_val = read(raw, |e| i16::from_le_bytes(e).into()),
        DataType::Int32 => message.int_val = read(raw, i32::from_le_bytes),
        DataType::Uint32 => message.uint32_val = read(raw, u32::from_le_bytes),
        DataType::Int64 => message.int64_val = read(raw, i64::from_le_bytes),
        DataType::Uint64 => message.uint64_val = read(raw, u64::from_le_bytes),
        DataType::Fp16 | DataType::Bf16 => {
            message.half_val = read(raw, |e| u16::from_le_bytes(e).into());
        }
        DataType::Fp32 => message.float_val = read(raw, f32::from_le_bytes),
        DataType::Fp64 => message.double_val = read(raw, f64::from_le_bytes),
        // Kept as `Data::Bytes`, which is a rule of tensors.
        DataType::Bytes => {}
    }
    message
}

/// Extents as a message.
pub(crate) fn shape_proto(shape: &[usize]) -> TensorShapeProto {
    let dim = |extent: &usize| Dim {
        size: i64::try_from(*extent).unwrap_or(i64::MAX),
        name: String::new(),
    };
    TensorShapeProto { dim: shape.iter().map(dim).collect(), unknown_rank: false }
}

/// The extents of a tensor that is there, so all of them are known. None at all is a scalar.
fn shape(message: Option<&TensorShapeProto>) -> Result<Shape, String> {
    let Some(message) = message else { return Ok(Shape::new()) };
    if message.unknown_rank {
        return Err("the shape has an unknown rank, expected an extent for each dimension".into());
    }
    let extent = |dim: &Dim| {
        usize::try_from(dim.size).map_err(|_| {
            let extents: Vec<i64> = message.dim.iter().map(|dim| dim.size).collect();
            format!("shape {extents:?} has the extent {}, expected >= 0", dim.size)
        })
    };
    message.dim.iter().map(extent).collect()
}

/// How many values each list of a message has.
struct Given([(&'static str, usize); 11]);

impl Given {
    fn of(message: &TensorProto) -> Self {
        Self([
            ("float_val", message.float_val.len()),
            ("double_val", message.double_val.len()),
            ("int_val", message.int_val.len()),
            ("string_val", message.string_val.len()),
            ("scomplex_val", message.scomplex_val.len()),
            ("int64_val", message.int64_val.len()),
            ("bool_val", message.bool_val.len()),
            ("dcomplex_val", message.dcomplex_val.len()),
            ("half_val", message.half_val.len()),
            ("uint32_val", message.uint32_val.len()),
            ("uint64_val", message.uint64_val.len()),
        ])
    }

    /// Names of the lists that have values.
    fn lists(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|(_, count)| *count > 0).map(|(name, _)| *name)
    }

    fn count(&self, list: &str) -> usize {
        self.0.iter().find(|(name, _)| *name == list).map_or(0, |(_, count)| *count)
    }
}

/// The list that holds elements of a type.
const fn list_of(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Bool => "bool_val",
        DataType::Uint8 | DataType::Uint16 | DataType::Int8 | DataType::Int16 | DataType::Int32 => {
            "int_val"
        }
        DataType::Uint32 => "uint32_val",
        DataType::Uint64 => "uint64_val",
        DataType::Int64 => "int64_val",
        DataType::Fp16 | DataType::Bf16 => "half_val",
        DataType::Fp32 => "float_val",
        DataType::Fp64 => "double_val",
        DataType::Bytes => "string_val",
    }
}

fn content(
    data_type: DataType,
    shape: Shape,
    given: &Given,
    content: Bytes,
) -> Result<Tensor, String> {
    if data_type == DataType::Bytes {
        return Err("strings belong in string_val, not in tensor_content".to_owned());
    }
    if let Some(list) = given.lists().next() {
        return Err(format!("tensor_content and {list} are both given, expected one of them"));
    }
    Tensor::new(data_type, shape, Data::Fixed(content)).map_err(|error| error.to_string())
}

fn elements(
    data_type: DataType,
    shape: Shape,
    count: usize,
    message: TensorProto,
) -> Result<Tensor, String> {
    let too_wide = |TooWide { index, value }| {
        let name = data_type::to_tensorflow(data_type).as_str_name();
        format!("value {index} is {value}, which {name} cannot hold")
    };
    macro_rules! narrowed {
        ($list:expr, $element:ty) => {
            spread(narrow::<$element, _>($list).map_err(too_wide)?, count)
        };
    }
    let tensor = match data_type {
        DataType::Bool => {
            let bytes = message.bool_val.into_iter().map(u8::from).collect();
            Tensor::from_vec(data_type, shape, spread(bytes, count))
        }
        DataType::Uint8 => Tensor::from_vec(data_type, shape, narrowed!(message.int_val, u8)),
        DataType::Uint16 => Tensor::from_vec(data_type, shape, narrowed!(message.int_val, u16)),
        DataType::Int8 => Tensor::from_vec(data_type, shape, narrowed!(message.int_val, i8)),
        DataType::Int16 => Tensor::from_vec(data_type, shape, narrowed!(message.int_val, i16)),
        DataType::Int32 => Tensor::from_vec(data_type, shape, spread(message.int_val, count)),
        DataType::Uint32 => Tensor::from_vec(data_type, shape, spread(message.uint32_val, count)),
        DataType::Uint64 => Tensor::from_vec(data_type, shape, spread(message.uint64_val, count)),
        DataType::Int64 => Tensor::from_vec(data_type, shape, spread(message.int64_val, count)),
        DataType::Fp16 | DataType::Bf16 => {
            Tensor::from_vec(data_type, shape, narrowed!(message.half_val, u16))
        }
        DataType::Fp32 => Tensor::from_vec(data_type, shape, spread(message.float_val, count)),
        DataType::Fp64 => Tensor::from_vec(data_type, shape, spread(message.double_val, count)),
        DataType::Bytes => {
            Tensor::new(data_type, shape, Data::Bytes(spread(message.string_val, count)))
        }
    };
    tensor.map_err(|error| error.to_string())
}

/// Repeats the last value until there are `count`; without any, the type's zero stands in, because
/// TensorFlow leaves out the values of a tensor of zeros.
fn spread<T: Clone + Default>(mut values: Vec<T>, count: usize) -> Vec<T> {
    let last = values.last().cloned().unwrap_or_default();
    values.resize(count, last);
    values
}

fn read<const N: usize, T>(raw: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|bytes| element(*bytes)).collect()
}

#[cfg(test)]
mod tests;
