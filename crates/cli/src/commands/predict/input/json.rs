//! JSON: a request body of the Open Inference Protocol or of TensorFlow Serving, a list, or an
//! object by input name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use miette::miette;
use serde_json::{Map, Value};
use trainyard_serving::{DataType, Tensor};

use super::super::element::{Element, Elements};
use super::super::metadata::{Declared, Metadata};

type Tensors = Vec<(String, Tensor)>;

pub(super) fn bind(
    value: &Value,
    tensor: Option<&str>,
    metadata: &Metadata,
) -> miette::Result<Tensors> {
    if let Some(name) = tensor {
        return Ok(vec![array(value, metadata.input(name)?)?]);
    }
    let Value::Object(object) = value else {
        return match value {
            Value::Array(rows) if is_rows(rows) => by_rows(rows, metadata),
            _ => Ok(vec![array(value, metadata.only_input()?)?]),
        };
    };
    let is_input = |name: &str| metadata.inputs.iter().any(|input| input.name == name);
    if let Some(Value::Array(inputs)) = object.get("inputs")
        && !is_input("inputs")
        && let Some(tensors) = inputs.iter().map(as_tensor).collect::<Option<Vec<_>>>()
        && !tensors.is_empty()
    {
        return tensors.into_iter().map(|tensor| protocol(tensor, metadata)).collect();
    }
    if let Some(Value::Array(rows)) = object.get("instances").filter(|_| !is_input("instances")) {
        return if is_rows(rows) {
            by_rows(rows, metadata)
        } else {
            Ok(vec![array(&Value::Array(rows.clone()), metadata.only_input()?)?])
        };
    }
    // TensorFlow Serving's column form.
    match object.get("inputs").filter(|_| !is_input("inputs")) {
        Some(Value::Object(columns)) => by_name(columns, metadata),
        Some(value) => Ok(vec![array(value, metadata.only_input()?)?]),
        None => by_name(object, metadata),
    }
}

/// Rows are objects by input name; `{"b64": …}` is a value.
fn is_rows(rows: &[Value]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row.is_object() && row.get("b64").is_none())
}

fn as_tensor(value: &Value) -> Option<&Map<String, Value>> {
    let object = value.as_object()?;
    (object.contains_key("name") && object.contains_key("data")).then_some(object)
}

/// One tensor of an Open Inference Protocol body; its data is nested or flat.
fn protocol(tensor: &Map<String, Value>, metadata: &Metadata) -> miette::Result<(String, Tensor)> {
    let name = tensor.get("name").and_then(Value::as_str).unwrap_or_default();
    let declared = metadata.input(name)?;
    if let Some(given) = tensor.get("datatype").and_then(Value::as_str)
        && given != declared.datatype
    {
        return Err(miette!("input `{name}` is {}, the request says {given}", declared.datatype));
    }
    let data = tensor.get("data").unwrap_or(&Value::Null);
    let Some(shape) = tensor.get("shape") else { return array(data, declared) };
    let extents = shape.as_array().and_then(|extents| {
        extents.iter().map(|it| it.as_u64().and_then(|it| usize::try_from(it).ok())).collect()
    });
    let Some(extents) = extents else {
        return Err(miette!("the shape of input `{name}` is {shape}, expected a list of integers"));
    };
    build(data, declared, Some(extents))
}

fn by_name(columns: &Map<String, Value>, metadata: &Metadata) -> miette::Result<Tensors> {
    columns.iter().map(|(name, value)| array(value, metadata.input(name)?)).collect()
}

fn by_rows(rows: &[Value], metadata: &Metadata) -> miette::Result<Tensors> {
    let names: Vec<&String> =
        rows.first().and_then(Value::as_object).into_iter().flat_map(Map::keys).collect();
    let mut tensors = Vec::new();
    for name in names {
        let column = rows.iter().enumerate().map(|(at, row)| {
            row.get(name).cloned().ok_or_else(|| miette!("row {at} has no `{name}`"))
        });
        let column = column.collect::<Result<Vec<Value>, _>>()?;
        tensors.push(array(&Value::Array(column), metadata.input(name)?)?);
    }
    Ok(tensors)
}

fn array(value: &Value, declared: &Declared) -> miette::Result<(String, Tensor)> {
    build(value, declared, None)
}

/// `shape` overrides the nesting, for data that is flat.
fn build(
    value: &Value,
    declared: &Declared,
    shape: Option<Vec<usize>>,
) -> miette::Result<(String, Tensor)> {
    let data_type = declared.data_type()?;
    let wrong = |problem| miette!("input `{}`: {problem}", declared.name);
    let mut elements = Elements::new(data_type);
    let mut nesting = Vec::new();
    flatten(value, 0, data_type, &mut nesting, &mut elements).map_err(wrong)?;
    let shape = declared.fit(&shape.unwrap_or(nesting))?;
    let tensor = Tensor::new(data_type, shape.into(), elements.into_data());
    Ok((declared.name.clone(), tensor.map_err(|error| wrong(error.to_string()))?))
}

/// Deeper than any tensor; serde_json's own limit is 128.
const MAX_RANK: usize = 16;

/// Writes the values in order; the first path down fixes the extents, and all others must agree.
fn flatten(
    value: &Value,
    depth: usize,
    data_type: DataType,
    shape: &mut Vec<usize>,
    out: &mut Elements,
) -> Result<(), String> {
    if depth > MAX_RANK {
        return Err(format!("the data is nested more than {MAX_RANK} deep"));
    }
    let Value::Array(items) = value else {
        if depth < shape.len() {
            return Err("its lists are not equally deep".to_owned());
        }
        return out.push(element(value, data_type)?);
    };
    match shape.get(depth) {
        Some(extent) if *extent != items.len() => {
            return Err(format!(
                "its lists are not equally long: one has {extent} items, another {}",
                items.len()
            ));
        }
        Some(_) => {}
        None => shape.push(items.len()),
    }
    let rank = shape.len();
    for (at, item) in items.iter().enumerate() {
        if at > 0 && !item.is_array() && rank < shape.len() && depth.saturating_add(1) < shape.len()
        {
            return Err("its lists are not equally deep".to_owned());
        }
        if at > 0 && item.is_array() && depth.saturating_add(1) == shape.len() {
            return Err("its lists are not equally deep".to_owned());
        }
        flatten(item, depth.saturating_add(1), data_type, shape, out)?;
    }
    Ok(())
}

fn element(value: &Value, data_type: DataType) -> Result<Element, String> {
    let refused = || format!("{value} is no {}", data_type.oip_name());
    match value {
        Value::Bool(value) => Ok(Element::Bool(*value)),
        Value::Number(number) => {
            let int = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            match (int, number.as_f64()) {
                (Some(int), _) => Ok(Element::Int(int)),
                (None, Some(float)) => Ok(Element::Float(float)),
                (None, None) => Err(refused()),
            }
        }
        Value::String(text) if data_type == DataType::Bytes => {
            Ok(Element::Bytes(Bytes::copy_from_slice(text.as_bytes())))
        }
        // What JSON has no numbers for, as Python's and TensorFlow's writers put it.
        Value::String(text) => match text.as_str() {
            "NaN" => Ok(Element::Float(f64::NAN)),
            "Infinity" => Ok(Element::Float(f64::INFINITY)),
            "-Infinity" => Ok(Element::Float(f64::NEG_INFINITY)),
            _ => Err(refused()),
        },
        Value::Object(object) if object.len() == 1 => {
            let text = object.get("b64").and_then(Value::as_str).ok_or_else(refused)?;
            let bytes = STANDARD.decode(text).map_err(|_| refused())?;
            Ok(Element::Bytes(bytes.into()))
        }
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;

    #[track_caller]
    fn check(metadata: &Metadata, text: &str, expected: Result<&str, &str>) {
        let value: Value = serde_json::from_str(text).unwrap();
        let got = bind(&value, None, metadata).map_err(|error| error.to_string()).map(|tensors| {
            let shown: Vec<String> = tensors
                .iter()
                .map(|(name, tensor)| {
                    let bytes = match tensor.data() {
                        trainyard_serving::tensor::Data::Fixed(bytes) => format!("{bytes:?}"),
                        trainyard_serving::tensor::Data::Bytes(all) => format!("{all:?}"),
                    };
                    format!("{name}{:?} {bytes}", tensor.shape())
                })
                .collect();
            shown.join("; ")
        });
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn one_input() {
        let one = model(&[("x", "UINT8", &[-1, 2])]);
        let expected = Ok(r#"x[2, 2] b"abcd""#);
        check(&one, "[[97, 98], [99, 100]]", expected);
        check(&one, r#"{"x": [[97, 98], [99, 100]]}"#, expected);
        check(&one, r#"{"instances": [[97, 98], [99, 100]]}"#, expected);
        check(&one, r#"{"instances": [{"x": [97, 98]}, {"x": [99, 100]}]}"#, expected);
        check(&one, r#"[{"x": [97, 98]}, {"x": [99, 100]}]"#, expected);
        check(&one, r#"{"inputs": [[97, 98], [99, 100]]}"#, expected);
        check(&one, r#"{"inputs": {"x": [[97, 98], [99, 100]]}}"#, expected);
        let body = r#"{"id": "1", "inputs": [{"name": "x", "shape": [2, 2], "datatype": "UINT8",
                      "data": [97, 98, 99, 100]}]}"#;
        check(&one, body, expected);
        check(&one, "[97, 98]", Ok(r#"x[1, 2] b"ab""#));
    }

    #[test]
    fn mistakes() {
        let one = model(&[("x", "UINT8", &[-1, 2])]);
        check(
            &one,
            "[[1, 2], [3]]",
            Err("input `x`: its lists are not equally long: one has 2 items, another 1"),
        );
        check(&one, "[[1, 2], 3]", Err("input `x`: its lists are not equally deep"));
        check(&one, "[1, [2]]", Err("input `x`: its lists are not equally deep"));
        check(&one, "[[1, 256]]", Err("input `x`: 256 is no UINT8"));
        check(&one, r#"[[1, "a"]]"#, Err("input `x`: \"a\" is no UINT8"));
        check(&one, "[[1, null]]", Err("input `x`: null is no UINT8"));
        check(&one, r#"{"y": [1]}"#, Err("model `m` has no input `y`; it takes `x`"));
        check(
            &one,
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "data": [1, 2]}]}"#,
            Err("input `x` is UINT8, the request says FP32"),
        );
        check(
            &one,
            r#"{"inputs": [{"name": "x", "shape": [2, 2], "data": [1, 2]}]}"#,
            Err("input `x`: shape [2, 2] of Uint8 needs 4 bytes, got 2"),
        );
        let two = model(&[("a", "UINT8", &[-1]), ("b", "UINT8", &[-1])]);
        check(&two, "[1]", Err("model `m` takes several inputs: `a`, `b`"));
        check(&two, r#"[{"a": 1, "b": 2}, {"a": 3}]"#, Err("row 1 has no `b`"));
    }

    #[test]
    fn strings() {
        let text = model(&[("t", "BYTES", &[-1])]);
        check(&text, r#"["a", {"b64": "AAE="}]"#, Ok(r#"t[2] [b"a", b"\0\x01"]"#));
        check(&text, "[]", Ok("t[0] []"));
    }
}
