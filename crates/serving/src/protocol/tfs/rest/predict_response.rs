//! The body that answers `:predict`, in the form that the request had.

use std::sync::Arc;

use crate::error::InferError;
use crate::protocol::json::{BytesForm, TensorText, Writer};
use crate::tensor::{DataType, Tensor};

/// Outputs by name, in the model's order.
type Outputs = [(Arc<str>, Tensor)];

/// Ending of the names of outputs whose strings are bytes, not text.
const BYTES_SUFFIX: &str = "_bytes";

/// Room for an element and its comma, so that the text is rarely moved while it grows.
const BYTES_PER_ELEMENT: usize = 12;

/// One entry a row: the value of the only output, or an object with all of them.
pub(super) fn rows(outputs: &Outputs) -> Result<Vec<u8>, InferError> {
    let count = common_rows(outputs)?;
    let mut writer = begin("predictions", outputs);
    writer.begin_array();
    match outputs {
        [(name, only)] => {
            let text = text(name, only);
            for index in 0..count {
                text.row(&mut writer, index);
            }
        }
        _ => {
            let texts: Vec<_> = outputs.iter().map(|(name, tensor)| text(name, tensor)).collect();
            for index in 0..count {
                writer.begin_object();
                for ((name, _), text) in outputs.iter().zip(&texts) {
                    writer.key(name);
                    text.row(&mut writer, index);
                }
                writer.end_object();
            }
        }
    }
    writer.end_array();
    writer.end_object();
    Ok(writer.finish())
}

/// The whole tensor of the only output, or an object with all of them.
pub(super) fn columns(outputs: &Outputs) -> Vec<u8> {
    let mut writer = begin("outputs", outputs);
    match outputs {
        [(name, only)] => text(name, only).nested(&mut writer),
        _ => {
            writer.begin_object();
            for (name, tensor) in outputs {
                writer.key(name);
                text(name, tensor).nested(&mut writer);
            }
            writer.end_object();
        }
    }
    writer.end_object();
    writer.finish()
}

fn begin(key: &str, outputs: &Outputs) -> Writer {
    let elements: usize = outputs.iter().map(|(_, tensor)| tensor.len()).sum();
    let mut writer = Writer::with_capacity(elements.saturating_mul(BYTES_PER_ELEMENT));
    writer.begin_object();
    writer.key(key);
    writer
}

/// Text of a tensor. Strings that are no text go out in base64 whatever the output's name, as there
/// is no other way to write them.
fn text<'a>(name: &str, tensor: &'a Tensor) -> TensorText<'a> {
    let bytes = tensor.data_type() == DataType::Bytes && name.ends_with(BYTES_SUFFIX);
    let form = if bytes { BytesForm::TextOrBase64 } else { BytesForm::Text };
    TensorText::new(tensor, form)
        .or_else(|_| TensorText::new(tensor, BytesForm::TextOrBase64))
        .expect("any bytes have a base64 form")
}

/// The extent of the first dimension, which all outputs must share to be given by row.
fn common_rows(outputs: &Outputs) -> Result<usize, InferError> {
    let mut common = None;
    for (name, tensor) in outputs {
        let Some(rows) = tensor.shape().first() else {
            return Err(InferError::Invalid(format!(
                "Tensor name: {name} is a scalar, which has no rows: ask with 'inputs' instead of \
                 'instances'"
            )));
        };
        let expected = *common.get_or_insert(*rows);
        if *rows != expected {
            return Err(InferError::Invalid(format!(
                "Tensor name: {name} has inconsistent batch size: {rows} expecting: {expected}; \
                 ask with 'inputs' instead of 'instances'"
            )));
        }
    }
    Ok(common.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tensor::{Data, Shape};

    fn floats(name: &str, shape: &[usize], values: &[f32]) -> (Arc<str>, Tensor) {
        let shape = Shape::from_slice(shape);
        (name.into(), Tensor::from_vec(DataType::Fp32, shape, values.to_vec()).expect("fits"))
    }

    fn strings(name: &str, values: &[&'static [u8]]) -> (Arc<str>, Tensor) {
        let data = Data::Bytes(values.iter().map(|value| Bytes::from_static(value)).collect());
        let shape = Shape::from_slice(&[values.len()]);
        (name.into(), Tensor::new(DataType::Bytes, shape, data).expect("fits"))
    }

    #[track_caller]
    fn check(outputs: &Outputs, by_row: Result<&str, &str>, by_column: &str) {
        match (rows(outputs), by_row) {
            (Ok(body), Ok(expected)) => assert_eq!(String::from_utf8_lossy(&body), expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
        assert_eq!(String::from_utf8_lossy(&columns(outputs)), by_column);
    }

    #[test]
    fn table() {
        let tensor = floats("y", &[2, 2], &[1.0, 2.5, f32::NAN, f32::NEG_INFINITY]);
        check(
            &[tensor],
            Ok(r#"{"predictions":[[1.0,2.5],[NaN,-Infinity]]}"#),
            r#"{"outputs":[[1.0,2.5],[NaN,-Infinity]]}"#,
        );
        check(
            &[floats("y", &[2], &[1.0, 2.0])],
            Ok(r#"{"predictions":[1.0,2.0]}"#),
            r#"{"outputs":[1.0,2.0]}"#,
        );
        check(
            &[strings("label", &[b"a", b"b"]), floats("p", &[2, 1], &[0.5, 1.0])],
            Ok(r#"{"predictions":[{"label":"a","p":[0.5]},{"label":"b","p":[1.0]}]}"#),
            r#"{"outputs":{"label":["a","b"],"p":[[0.5],[1.0]]}}"#,
        );
        check(
            &[strings("image_bytes", &[b"hi"])],
            Ok(r#"{"predictions":[{"b64":"aGk="}]}"#),
            r#"{"outputs":[{"b64":"aGk="}]}"#,
        );
        check(
            &[strings("y", &[b"\xff"])],
            Ok(r#"{"predictions":[{"b64":"/w=="}]}"#),
            r#"{"outputs":[{"b64":"/w=="}]}"#,
        );
        check(&[floats("y", &[], &[1.0])], Err("y is a scalar"), r#"{"outputs":1.0}"#);
        check(
            &[floats("a", &[1], &[1.0]), floats("b", &[2], &[1.0, 2.0])],
            Err("b has inconsistent batch size: 2 expecting: 1"),
            r#"{"outputs":{"a":[1.0],"b":[1.0,2.0]}}"#,
        );
        check(&[floats("y", &[0, 2], &[])], Ok(r#"{"predictions":[]}"#), r#"{"outputs":[]}"#);
    }
}
