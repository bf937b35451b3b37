//! Elements of tensors for printing.

use half::{bf16, f16};
use serde::Serialize;
use trainyard_serving::tensor::Data;
use trainyard_serving::{DataType, Tensor};

/// All elements, row-major. Serialises as a flat list; floats with as few digits as tell them
/// apart, and null where JSON has no number.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Values {
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Uints(Vec<u64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Texts(Vec<String>),
}

impl Values {
    pub(super) fn of(tensor: &Tensor) -> Self {
        let bytes = match tensor.data() {
            Data::Fixed(bytes) => bytes.as_ref(),
            Data::Bytes(elements) => {
                // Text for people; what is not UTF-8 shows as replacement characters.
                let texts = elements.iter().map(|it| String::from_utf8_lossy(it).into_owned());
                return Self::Texts(texts.collect());
            }
        };
        match tensor.data_type() {
            DataType::Bool => Self::Bools(bytes.iter().map(|byte| *byte != 0).collect()),
            DataType::Uint8 => Self::Uints(each(bytes, |[byte]: [u8; 1]| byte.into())),
            DataType::Uint16 => Self::Uints(each(bytes, |it| u16::from_le_bytes(it).into())),
            DataType::Uint32 => Self::Uints(each(bytes, |it| u32::from_le_bytes(it).into())),
            DataType::Uint64 => Self::Uints(each(bytes, u64::from_le_bytes)),
            DataType::Int8 => Self::Ints(each(bytes, |it| i8::from_le_bytes(it).into())),
            DataType::Int16 => Self::Ints(each(bytes, |it| i16::from_le_bytes(it).into())),
            DataType::Int32 => Self::Ints(each(bytes, |it| i32::from_le_bytes(it).into())),
            DataType::Int64 => Self::Ints(each(bytes, i64::from_le_bytes)),
            DataType::Fp16 => Self::Floats(each(bytes, |it| f16::from_le_bytes(it).to_f32())),
            DataType::Bf16 => Self::Floats(each(bytes, |it| bf16::from_le_bytes(it).to_f32())),
            DataType::Fp32 => Self::Floats(each(bytes, f32::from_le_bytes)),
            DataType::Fp64 => Self::Doubles(each(bytes, f64::from_le_bytes)),
            // Their data is elements, which were handled above.
            DataType::Bytes => Self::Texts(Vec::new()),
        }
    }

    /// One element as text, floats rounded to what a table needs.
    pub(super) fn show(&self, at: usize) -> String {
        let text = match self {
            Self::Bools(all) => all.get(at).map(ToString::to_string),
            Self::Ints(all) => all.get(at).map(ToString::to_string),
            Self::Uints(all) => all.get(at).map(ToString::to_string),
            Self::Floats(all) => all.get(at).map(|value| float(f64::from(*value))),
            Self::Doubles(all) => all.get(at).map(|value| float(*value)),
            Self::Texts(all) => all.get(at).cloned(),
        };
        text.unwrap_or_default()
    }
}

fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok()).map(read).collect()
}

/// Five significant digits.
fn float(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    if !(1e-4..1e6).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let whole = magnitude.log10().floor() as i32;
    let digits = usize::try_from(4i32.saturating_sub(whole)).unwrap_or(0);
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[test]
fn shown_and_serialised() {
    use trainyard_serving::tensor::Shape;
    let tensor =
        Tensor::from_vec(DataType::Fp32, Shape::from_slice(&[3]), vec![0.1f32, f32::NAN, 1e9]);
    let values = Values::of(&tensor.unwrap());
    assert_eq!(serde_json::to_string(&values).unwrap(), "[0.1,null,1000000000.0]");
    assert_eq!(
        (values.show(0), values.show(1), values.show(2)),
        ("0.1".into(), "NaN".into(), "1.000e9".into())
    );
    let check = |value, expected| assert_eq!(float(value), expected);
    check(0.0, "0");
    check(-12.345678, "-12.346");
    check(123456.7, "123457");
    check(0.00012345678, "0.00012346");
    check(5.0, "5");
    check(f64::INFINITY, "inf");
}
