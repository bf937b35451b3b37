//! The Open Inference Protocol's REST form, with tensors in binary.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use miette::miette;
use serde::Deserialize;
use serde_json::json;
use trainyard_serving::tensor::{Data, Shape, element_count};
use trainyard_serving::{DataType, Tensor};

/// Name of the header that says where the JSON ends and tensors begin.
pub(super) const HEADER: &str = "inference-header-content-length";

/// A body, and the length of the JSON at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) json_bytes: usize,
    pub(super) body: Bytes,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) model: String,
    pub(super) version: Option<String>,
    pub(super) outputs: Vec<(String, Tensor)>,
}

pub(super) fn encode(tensors: &[(String, Tensor)], select: &[String]) -> miette::Result<Request> {
    let mut blobs = BytesMut::new();
    let mut inputs = Vec::new();
    for (name, tensor) in tensors {
        let before = blobs.len();
        match tensor.data() {
            Data::Fixed(bytes) => blobs.extend_from_slice(bytes),
            Data::Bytes(elements) => {
                for element in elements {
                    let length = u32::try_from(element.len());
                    blobs.put_u32_le(
                        length.map_err(|_| miette!("a text of `{name}` has more than 4 GiB"))?,
                    );
                    blobs.extend_from_slice(element);
                }
            }
        }
        inputs.push(json!({
            "name": name,
            "shape": tensor.shape(),
            "datatype": tensor.data_type().oip_name(),
            "parameters": {"binary_data_size": blobs.len().saturating_sub(before)},
        }));
    }
    let mut head = json!({"inputs": inputs, "parameters": {"binary_data_output": true}});
    if !select.is_empty() {
        let outputs =
            select.iter().map(|name| json!({"name": name, "parameters": {"binary_data": true}}));
        head["outputs"] = outputs.collect();
    }
    let head = head.to_string();
    let body = [head.as_bytes(), &blobs].concat().into();
    Ok(Request { json_bytes: head.len(), body })
}

#[derive(Deserialize)]
struct Head {
    model_name: String,
    model_version: Option<String>,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(default)]
    parameters: Parameters,
    data: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
struct Parameters {
    binary_data_size: Option<usize>,
}

/// Reads an answer; `json_bytes` is absent where it is JSON only.
pub(super) fn decode(mut body: Bytes, json_bytes: Option<usize>) -> Result<Answer, String> {
    let length = json_bytes.unwrap_or(body.len());
    if length > body.len() {
        return Err(format!("its header announces {length} bytes of JSON, it has {}", body.len()));
    }
    let head: Head = serde_json::from_slice(&body.split_to(length))
        .map_err(|error| format!("it is no answer of the Open Inference Protocol: {error}"))?;
    let mut outputs = Vec::new();
    for output in head.outputs {
        let named = |problem: String| format!("output `{}`: {problem}", output.name);
        let data_type = DataType::from_oip_name(&output.datatype)
            .ok_or_else(|| named(format!("unknown data type {}", output.datatype)))?;
        let data = match (output.parameters.binary_data_size, &output.data) {
            (Some(size), _) if size <= body.len() => from_blob(body.split_to(size), data_type),
            (Some(size), _) => Err(format!("{size} bytes are announced, {} are left", body.len())),
            (None, Some(value)) => from_json(value, data_type),
            (None, None) => Err("it has no data".to_owned()),
        };
        let shape = Shape::from_slice(&output.shape);
        let tensor = data.and_then(|data| {
            Tensor::new(data_type, shape, data).map_err(|error| error.to_string())
        });
        outputs.push((output.name.clone(), tensor.map_err(named)?));
    }
    Ok(Answer { model: head.model_name, version: head.model_version, outputs })
}

fn from_blob(mut blob: Bytes, data_type: DataType) -> Result<Data, String> {
    if data_type != DataType::Bytes {
        return Ok(Data::Fixed(blob));
    }
    let mut elements = Vec::new();
    while !blob.is_empty() {
        let length = blob.try_get_u32_le().map_err(|_| "a text is cut off".to_owned())?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > blob.len() {
            return Err("a text is cut off".to_owned());
        }
        elements.push(blob.split_to(length));
    }
    Ok(Data::Bytes(elements))
}

/// Flat or nested; servers without the binary extension answer so.
fn from_json(value: &serde_json::Value, data_type: DataType) -> Result<Data, String> {
    use super::element::{Element, Elements};
    fn walk(value: &serde_json::Value, out: &mut Elements) -> Result<(), String> {
        use serde_json::Value;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| walk(item, out)),
            Value::Bool(value) => out.push(Element::Bool(*value)),
            Value::String(text) => out.push(Element::Bytes(text.clone().into())),
            Value::Number(number) => out.push(match number.as_i64() {
                Some(value) => Element::Int(value.into()),
                None => match number.as_u64() {
                    Some(value) => Element::Int(value.into()),
                    None => Element::Float(number.as_f64().unwrap_or(f64::NAN)),
                },
            }),
            // How some servers write NaN.
            Value::Null => out.push(Element::Float(f64::NAN)),
            Value::Object(_) => Err("an object stands where a value should".to_owned()),
        }
    }
    let mut elements = Elements::new(data_type);
    walk(value, &mut elements)?;
    Ok(elements.into_data())
}

/// Elements of one row: the product of all extents but the first.
pub(super) fn row_length(shape: &[usize]) -> usize {
    shape.get(1..).and_then(element_count).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests() {
        let numbers =
            Tensor::from_vec(DataType::Int32, Shape::from_slice(&[2]), vec![1i32, 2]).unwrap();
        let texts = Data::Bytes(vec![Bytes::from_static(b"a"), Bytes::new()]);
        let texts = Tensor::new(DataType::Bytes, Shape::from_slice(&[2]), texts).unwrap();
        let tensors = [("n".to_owned(), numbers), ("t".to_owned(), texts)];
        let request = encode(&tensors, &["y".to_owned()]).unwrap();
        let (head, blobs) = request.body.split_at(request.json_bytes);
        let head: serde_json::Value = serde_json::from_slice(head).unwrap();
        assert_eq!(head["inputs"][1]["parameters"]["binary_data_size"], 9);
        assert_eq!(head["outputs"][0]["name"], "y");
        assert_eq!(blobs, b"\x01\0\0\0\x02\0\0\0\x01\0\0\0a\0\0\0\0");
    }

    #[test]
    fn answers() {
        let head = r#"{"model_name":"m","model_version":"2","outputs":[
            {"name":"a","datatype":"INT16","shape":[1],"parameters":{"binary_data_size":2}},
            {"name":"t","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}},
            {"name":"j","datatype":"FP32","shape":[2],"data":[1,2.5]}]}"#;
        let body = [head.as_bytes(), b"\x07\0", b"\x01\0\0\0x"].concat();
        let answer = decode(body.into(), Some(head.len())).unwrap();
        assert_eq!((answer.model.as_str(), answer.version.as_deref()), ("m", Some("2")));
        assert_eq!(answer.outputs[0].1.fixed().unwrap().as_ref(), b"\x07\0");
        assert_eq!(answer.outputs[1].1.data(), &Data::Bytes(vec![Bytes::from_static(b"x")]));
        assert_eq!(answer.outputs[2].1.fixed().unwrap().len(), 8);
        let cut = decode(head.as_bytes().to_vec().into(), Some(head.len())).unwrap_err();
        assert_eq!(cut, "output `a`: 2 bytes are announced, 0 are left");
        assert!(decode(Bytes::from_static(b"{}"), Some(9)).unwrap_err().contains("announces 9"));
        assert!(decode(Bytes::from_static(b"{}"), None).unwrap_err().contains("no answer"));
    }

    proptest! {
        #[test]
        fn texts_survive(texts in proptest::collection::vec("\\PC{0,5}", 0..5)) {
            let data = Data::Bytes(texts.iter().map(|it| Bytes::copy_from_slice(it.as_bytes())).collect());
            let shape = Shape::from_slice(&[texts.len()]);
            let tensor = Tensor::new(DataType::Bytes, shape, data.clone()).unwrap();
            let request = encode(&[("t".to_owned(), tensor)], &[]).unwrap();
            let blob = request.body.slice(request.json_bytes..);
            prop_assert_eq!(from_blob(blob, DataType::Bytes).unwrap(), data);
        }
    }
}
