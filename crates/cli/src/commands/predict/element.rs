//! Single values on their way into a tensor of a given type.

use bytes::{BufMut, Bytes, BytesMut};
use half::{bf16, f16};
use trainyard_serving::DataType;

/// A value as a file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Element {
    Bool(bool),
    Int(i128),
    Float(f64),
    Bytes(Bytes),
}

/// The elements of one tensor, written as they come.
pub(super) struct Elements {
    data_type: DataType,
    fixed: BytesMut,
    strings: Vec<Bytes>,
}

impl Elements {
    pub(super) fn new(data_type: DataType) -> Self {
        Self { data_type, fixed: BytesMut::new(), strings: Vec::new() }
    }

    /// Adds a value; the error says why the type cannot hold it.
    pub(super) fn push(&mut self, element: Element) -> Result<(), String> {
        use DataType as T;
        let data_type = self.data_type;
        let out = &mut self.fixed;
        match (data_type, element) {
            (T::Bytes, Element::Bytes(bytes)) => self.strings.push(bytes),
            (T::Bytes, element) => self.strings.push(as_text(&element).into()),
            (T::Bool, Element::Bool(value)) => out.put_u8(u8::from(value)),
            (T::Bool, Element::Int(value @ (0 | 1))) => out.put_u8(u8::from(value == 1)),
            (T::Fp16, element) => {
                out.put_u16_le(f16::from_f64(float(&element, data_type)?).to_bits())
            }
            (T::Bf16, element) => {
                out.put_u16_le(bf16::from_f64(float(&element, data_type)?).to_bits())
            }
            (T::Fp32, element) => out.put_f32_le(float(&element, data_type)? as f32),
            (T::Fp64, element) => out.put_f64_le(float(&element, data_type)?),
            (T::Int8, element) => out.put_i8(int(&element, data_type)?),
            (T::Int16, element) => out.put_i16_le(int(&element, data_type)?),
            (T::Int32, element) => out.put_i32_le(int(&element, data_type)?),
            (T::Int64, element) => out.put_i64_le(int(&element, data_type)?),
            (T::Uint8, element) => out.put_u8(int(&element, data_type)?),
            (T::Uint16, element) => out.put_u16_le(int(&element, data_type)?),
            (T::Uint32, element) => out.put_u32_le(int(&element, data_type)?),
            (T::Uint64, element) => out.put_u64_le(int(&element, data_type)?),
            (T::Bool, element) => return Err(refusal(&element, data_type)),
        }
        Ok(())
    }

    pub(super) fn into_data(self) -> trainyard_serving::tensor::Data {
        use trainyard_serving::tensor::Data;
        match self.data_type {
            DataType::Bytes => Data::Bytes(self.strings),
            _ => Data::Fixed(self.fixed.freeze()),
        }
    }
}

/// Integers become floats, rounded where they have more digits than the type.
fn float(element: &Element, data_type: DataType) -> Result<f64, String> {
    match element {
        Element::Float(value) => Ok(*value),
        Element::Int(value) => Ok(*value as f64),
        _ => Err(refusal(element, data_type)),
    }
}

/// Floats become integers where they are whole, because CSV and JSON writers add `.0`.
fn int<T: TryFrom<i128>>(element: &Element, data_type: DataType) -> Result<T, String> {
    let value = match element {
        Element::Int(value) => Some(*value),
        // 2^63 and above are not exact steps of one any more.
        Element::Float(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => {
            Some(*value as i128)
        }
        _ => None,
    };
    value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| refusal(element, data_type))
}

fn refusal(element: &Element, data_type: DataType) -> String {
    format!("{} is no {}", as_text(element), data_type.oip_name())
}

fn as_text(element: &Element) -> String {
    match element {
        Element::Bool(value) => value.to_string(),
        Element::Int(value) => value.to_string(),
        Element::Float(value) => value.to_string(),
        Element::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// A cell of a CSV file as the type wants it.
pub(super) fn from_text(text: &str, data_type: DataType) -> Result<Element, String> {
    if data_type == DataType::Bytes {
        return Ok(Element::Bytes(Bytes::copy_from_slice(text.as_bytes())));
    }
    let text = text.trim();
    if let Ok(value) = text.parse::<i128>() {
        return Ok(Element::Int(value));
    }
    if let Ok(value) = text.parse::<f64>() {
        return Ok(Element::Float(value));
    }
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(Element::Bool(true)),
        "false" => Ok(Element::Bool(false)),
        // What spreadsheets and pandas leave empty is missing.
        "" if is_float(data_type) => Ok(Element::Float(f64::NAN)),
        _ => Err(format!("{text:?} is no {}", data_type.oip_name())),
    }
}

fn is_float(data_type: DataType) -> bool {
    matches!(data_type, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push(data_type: DataType, element: Element) -> Result<Vec<u8>, String> {
        let mut elements = Elements::new(data_type);
        elements.push(element)?;
        Ok(match elements.into_data() {
            trainyard_serving::tensor::Data::Fixed(bytes) => bytes.to_vec(),
            trainyard_serving::tensor::Data::Bytes(mut strings) => strings.remove(0).to_vec(),
        })
    }

    #[test]
    fn values_fit_or_are_refused() {
        use DataType as T;
        let check = |data_type, element, expected: Result<&[u8], &str>| {
            let got = push(data_type, element);
            assert_eq!(got.as_deref().map_err(String::as_str), expected);
        };
        check(T::Int8, Element::Int(-1), Ok(&[255]));
        check(T::Uint8, Element::Int(-1), Err("-1 is no UINT8"));
        check(T::Int32, Element::Float(2.0), Ok(&[2, 0, 0, 0]));
        check(T::Int32, Element::Float(2.5), Err("2.5 is no INT32"));
        check(T::Uint64, Element::Int(i128::from(u64::MAX)), Ok(&[255; 8]));
        check(T::Fp32, Element::Int(1), Ok(&[0, 0, 128, 63]));
        check(T::Fp16, Element::Float(1.0), Ok(&[0, 60]));
        check(T::Bool, Element::Int(1), Ok(&[1]));
        check(T::Bool, Element::Int(2), Err("2 is no BOOL"));
        check(T::Bytes, Element::Int(7), Ok(b"7"));
        check(T::Fp32, Element::Bytes("x".into()), Err("x is no FP32"));
    }

    #[test]
    fn cells() {
        assert_eq!(from_text(" 1.5 ", DataType::Fp32), Ok(Element::Float(1.5)));
        assert_eq!(from_text(" a ", DataType::Bytes), Ok(Element::Bytes(" a ".into())));
        assert_eq!(from_text("TRUE", DataType::Bool), Ok(Element::Bool(true)));
        assert!(matches!(from_text("", DataType::Fp32), Ok(Element::Float(it)) if it.is_nan()));
        assert_eq!(from_text("", DataType::Int64), Err("\"\" is no INT64".to_owned()));
    }

    proptest! {
        #[test]
        fn integers_survive(value: i64) {
            let bytes = push(DataType::Int64, Element::Int(i128::from(value))).unwrap();
            prop_assert_eq!(i64::from_le_bytes(bytes.try_into().unwrap()), value);
        }
    }
}
