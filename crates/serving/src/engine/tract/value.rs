//! Tensors to and from tract's.

use bytes::Bytes;
use tract_onnx::prelude::{DatumType, Tensor as TractTensor};
use tract_onnx::tract_hir::tract_core::internal::TValue;

use crate::engine::EngineError;
use crate::tensor::{Data, DataType, Shape, Tensor};

/// tract's type for one of ours, if it has it.
pub(super) const fn datum_type(data_type: DataType) -> Option<DatumType> {
    Some(match data_type {
        DataType::Bool => DatumType::Bool,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp16 => DatumType::F16,
        DataType::Fp32 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bytes => DatumType::String,
        DataType::Bf16 => return None,
    })
}

/// Our type for one of tract's; symbolic dimensions are answered as integers.
pub(super) fn data_type(datum_type: DatumType) -> Option<DataType> {
    if datum_type == DatumType::TDim {
        return Some(DataType::Int64);
    }
    // A quantised type is served as the integer that holds it.
    let plain = datum_type.unquantized();
    DataType::ALL.into_iter().find(|ours| self::datum_type(*ours) == Some(plain))
}

/// Copies an input.
pub(super) fn to_tract(tensor: &Tensor) -> Result<TValue, EngineError> {
    let failed = |error: &dyn std::fmt::Display| EngineError::Input(format!("{error:#}"));
    let datum_type = datum_type(tensor.data_type()).ok_or_else(|| {
        EngineError::Input(format!(
            "the built-in engine (tract) has no {}",
            tensor.data_type().oip_name()
        ))
    })?;
    let converted = match tensor.data() {
        Data::Fixed(bytes) => {
            if datum_type == DatumType::Bool && bytes.iter().any(|byte| *byte > 1) {
                return Err(EngineError::Input("a BOOL element is neither 0 nor 1".to_owned()));
            }
            // SAFETY: the bytes are elements of this plain type, all bit patterns of which are
            // valid (`bool` was checked above); tract checks their number and aligns its copy.
            unsafe { TractTensor::from_raw_dt(datum_type, tensor.shape(), bytes) }
                .map_err(|error| failed(&error))?
        }
        Data::Bytes(elements) => {
            let strings = elements
                .iter()
                .map(|element| std::str::from_utf8(element).map(str::to_owned))
                .collect::<Result<Vec<String>, _>>()
                .map_err(|_| {
                    EngineError::Input(
                        "the built-in engine (tract) takes strings in UTF-8 only".to_owned(),
                    )
                })?;
            let array =
                tract_onnx::prelude::tract_ndarray::ArrayD::from_shape_vec(tensor.shape(), strings)
                    .map_err(|error| failed(&error))?;
            TractTensor::from(array)
        }
    };
    Ok(converted.into())
}

/// Reads an output, without a copy where the elements are plain.
pub(super) fn from_tract(value: TValue) -> Result<Tensor, EngineError> {
    let failed = |error: &dyn std::fmt::Display| EngineError::Run(format!("{error:#}"));
    let value = if value.datum_type() == DatumType::TDim {
        let integers = value.cast_to::<i64>().map_err(|error| failed(&error))?;
        TValue::from(integers.into_owned())
    } else {
        value
    };
    let data_type = data_type(value.datum_type()).ok_or_else(|| {
        EngineError::Run(format!("an output is of tract's type {:?}", value.datum_type()))
    })?;
    let shape = Shape::from_slice(value.shape());
    let view = value.try_as_plain_ram().map_err(|error| failed(&error))?;
    let data = if data_type == DataType::Bytes {
        let strings = view.as_slice::<String>().map_err(|error| failed(&error))?;
        Data::Bytes(strings.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect())
    } else {
        Data::Fixed(Bytes::from_owner(Owner(value)))
    };
    Tensor::new(data_type, shape, data).map_err(|error| failed(&error))
}

/// Keeps an output's memory alive.
struct Owner(TValue);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        // Checked to be plain when the owner was made.
        self.0.as_bytes()
    }
}
