//! Writes the elements of a tensor, flat or nested.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use half::{bf16, f16};

use super::read_tensor::BytesForm;
use super::writer::Writer;
use crate::tensor::{Data, DataType, Tensor};

/// A tensor whose elements all have a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorText<'a> {
    tensor: &'a Tensor,
    bytes: BytesForm,
}

/// A BYTES element cannot be a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("element {index} is not UTF-8 text, which JSON cannot carry")]
pub(crate) struct NotText {
    pub(crate) index: usize,
}

impl<'a> TensorText<'a> {
    /// Checks that every element can be written. With [`BytesForm::TextOrBase64`] all can: BYTES
    /// elements are then written as `{"b64": "…"}`, every one of them, so that a reader need not
    /// guess.
    pub(crate) fn new(tensor: &'a Tensor, bytes: BytesForm) -> Result<Self, NotText> {
        if let (Data::Bytes(elements), BytesForm::Text) = (tensor.data(), bytes) {
            let wrong = elements.iter().position(|element| std::str::from_utf8(element).is_err());
            if let Some(index) = wrong {
                return Err(NotText { index });
            }
        }
        Ok(Self { tensor, bytes })
    }

    /// Writes one array of all elements.
    pub(crate) fn flat(&self, writer: &mut Writer) {
        writer.begin_array();
        self.run(writer, 0, self.tensor.len());
        writer.end_array();
    }

    /// Writes arrays within arrays as the shape has them; a scalar is written bare.
    pub(crate) fn nested(&self, writer: &mut Writer) {
        self.level(writer, self.tensor.shape(), 0);
    }

    /// Writes one row of the first dimension, nested as the other dimensions are.
    pub(crate) fn row(&self, writer: &mut Writer, index: usize) {
        let inner = self.tensor.shape().get(1..).unwrap_or_default();
        self.level(writer, inner, index.saturating_mul(product(inner)));
    }

    fn level(&self, writer: &mut Writer, shape: &[usize], start: usize) {
        let Some((extent, inner)) = shape.split_first() else {
            self.run(writer, start, 1);
            return;
        };
        writer.begin_array();
        if inner.is_empty() {
            self.run(writer, start, *extent);
        } else {
            let size = product(inner);
            for index in 0..*extent {
                self.level(writer, inner, start.saturating_add(index.saturating_mul(size)));
            }
        }
        writer.end_array();
    }

    /// Writes `count` elements from index `start` on, without brackets.
    fn run(&self, writer: &mut Writer, start: usize, count: usize) {
        let bytes = match self.tensor.data() {
            Data::Fixed(bytes) => bytes,
            Data::Bytes(elements) => return self.texts(writer, elements, start, count),
        };
        match self.tensor.data_type() {
            DataType::Bool => each(bytes, start, count, |[byte]| writer.bool(byte != 0)),
            DataType::Uint8 => each(bytes, start, count, |[byte]| writer.integer(byte)),
            DataType::Int8 => each(bytes, start, count, |e| writer.integer(i8::from_le_bytes(e))),
            DataType::Uint16 => {
                each(bytes, start, count, |e| writer.integer(u16::from_le_bytes(e)))
            }
            DataType::Int16 => each(bytes, start, count, |e| writer.integer(i16::from_le_bytes(e))),
            DataType::Uint32 => {
                each(bytes, start, count, |e| writer.integer(u32::from_le_bytes(e)))
            }
            DataType::Int32 => each(bytes, start, count, |e| writer.integer(i32::from_le_bytes(e))),
            DataType::Uint64 => {
                each(bytes, start, count, |e| writer.integer(u64::from_le_bytes(e)))
            }
            DataType::Int64 => each(bytes, start, count, |e| writer.integer(i64::from_le_bytes(e))),
            DataType::Fp16 => {
                each(bytes, start, count, |e| writer.f32(f16::from_le_bytes(e).to_f32()));
            }
            DataType::Bf16 => {
                each(bytes, start, count, |e| writer.f32(bf16::from_le_bytes(e).to_f32()));
            }
            DataType::Fp32 => each(bytes, start, count, |e| writer.f32(f32::from_le_bytes(e))),
            DataType::Fp64 => each(bytes, start, count, |e| writer.f64(f64::from_le_bytes(e))),
            // Never holds fixed-size elements: a tensor checks that when it is made.
            DataType::Bytes => {}
        }
    }

    fn texts(&self, writer: &mut Writer, elements: &[Bytes], start: usize, count: usize) {
        let end = start.saturating_add(count);
        for element in elements.get(start..end).unwrap_or_default() {
            match (self.bytes, std::str::from_utf8(element)) {
                (BytesForm::Text, Ok(text)) => writer.string(text),
                _ => {
                    writer.begin_object();
                    writer.key("b64");
                    writer.string(&STANDARD.encode(element));
                    writer.end_object();
                }
            }
        }
    }
}

/// The tensor's own extents, whose product was checked when it was made.
fn product(extents: &[usize]) -> usize {
    extents.iter().fold(1, |product, extent| product.saturating_mul(*extent))
}

#[inline]
fn each<const N: usize>(bytes: &[u8], start: usize, count: usize, mut write: impl FnMut([u8; N])) {
    let end = start.saturating_add(count);
    for element in bytes.as_chunks::<N>().0.get(start..end).unwrap_or_default() {
        write(*element);
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::tensor::Shape;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::default();
        write(&mut writer);
        String::from_utf8(writer.finish()).expect("is text")
    }

    #[test]
    fn flat_nested_and_rows() {
        let values: Vec<i32> = (1..=12).collect();
        let tensor = Tensor::from_vec(DataType::Int32, smallvec![2, 3, 2], values).expect("fits");
        let text = TensorText::new(&tensor, BytesForm::Text).expect("numbers");
        assert_eq!(written(|writer| text.flat(writer)), "[1,2,3,4,5,6,7,8,9,10,11,12]");
        let nested = "[[[1,2],[3,4],[5,6]],[[7,8],[9,10],[11,12]]]";
        assert_eq!(written(|writer| text.nested(writer)), nested);
        assert_eq!(written(|writer| text.row(writer, 1)), "[[7,8],[9,10],[11,12]]");

        let empty = |shape: Shape| Tensor::from_vec(DataType::Fp32, shape, Vec::<f32>::new());
        let tensor = empty(smallvec![2, 0]).expect("fits");
        let text = TensorText::new(&tensor, BytesForm::Text).expect("numbers");
        assert_eq!(written(|writer| text.flat(writer)), "[]");
        assert_eq!(written(|writer| text.nested(writer)), "[[],[]]");

        let scalar = Tensor::from_vec(DataType::Fp64, smallvec![], vec![1.0f64]).expect("fits");
        let text = TensorText::new(&scalar, BytesForm::Text).expect("numbers");
        assert_eq!(written(|writer| text.flat(writer)), "[1.0]");
        assert_eq!(written(|writer| text.nested(writer)), "1.0");
    }

    #[test]
    fn bytes_are_text_or_base64() {
        let data = Data::Bytes(vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")]);
        let tensor = Tensor::new(DataType::Bytes, smallvec![2], data).expect("fits");
        assert_eq!(TensorText::new(&tensor, BytesForm::Text).map(drop), Err(NotText { index: 1 }));
        let text = TensorText::new(&tensor, BytesForm::TextOrBase64).expect("any bytes");
        assert_eq!(written(|writer| text.nested(writer)), r#"[{"b64":"YQ=="},{"b64":"/w=="}]"#);
    }
}
