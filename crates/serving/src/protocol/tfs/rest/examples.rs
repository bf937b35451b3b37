//! The body of `:classify` and `:regress`: examples with features by name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::error::InferError;
use crate::protocol::grpc::tensorflow::serving::{
    ExampleList, ExampleListWithContext, Input, input,
};
use crate::protocol::grpc::tensorflow::{
    BytesList, Example, Feature, Features, FloatList, Int64List, feature::Kind,
};
use crate::protocol::json::{JsonError, Reader, Value};
use crate::protocol::tfs::model_spec::check_signature;

/// Reads a body.
pub(super) fn parse(body: &[u8]) -> Result<Input, InferError> {
    if body.is_empty() {
        return Err(InferError::Invalid("JSON Parse error: The document is empty".to_owned()));
    }
    let mut request = Request::default();
    let read = Reader::new(body).and_then(|mut reader| {
        reader.object(|reader, key| request.member(reader, key))?;
        reader.finish()
    });
    read.map_err(|error| InferError::Invalid(format!("JSON Parse error: {error}")))?;
    check_signature(request.signature_name.as_deref().unwrap_or_default())?;
    let examples = request.examples.ok_or_else(|| {
        InferError::Invalid("key 'examples' is expected and was not found".to_owned())
    })?;
    let kind = match request.context {
        None => input::Kind::ExampleList(ExampleList { examples }),
        context => {
            input::Kind::ExampleListWithContext(ExampleListWithContext { examples, context })
        }
    };
    Ok(Input { kind: Some(kind) })
}

#[derive(Default)]
struct Request {
    signature_name: Option<String>,
    context: Option<Example>,
    examples: Option<Vec<Example>>,
}

impl Request {
    fn member(&mut self, reader: &mut Reader<'_>, key: &str) -> Result<(), JsonError> {
        match key {
            "signature_name" => self.signature_name = Some(reader.string()?.into_owned()),
            "context" => self.context = Some(example(reader)?),
            "examples" => {
                let start = reader.offset();
                let mut examples = Vec::new();
                let count = reader.array(|reader, _| {
                    examples.push(example(reader)?);
                    Ok(())
                })?;
                if count == 0 {
                    return Err(JsonError::new(start, "'examples' value is an empty array"));
                }
                self.examples = Some(examples);
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

fn example(reader: &mut Reader<'_>) -> Result<Example, JsonError> {
    let mut features = Features::default();
    reader.object(|reader, name| {
        let start = reader.offset();
        let kind = match Value::read(reader)? {
            Value::Array(values) => kind(values),
            value => kind(vec![value]),
        };
        let kind = kind.map_err(|problem| JsonError::new(start, problem))?;
        features.feature.insert(name.to_owned(), Feature { kind: Some(kind) });
        Ok(())
    })?;
    Ok(Example { features: Some(features) })
}

/// The list of one type that holds all values. Whole numbers beside others are floats too.
fn kind(values: Vec<Value<'_>>) -> Result<Kind, String> {
    let is_text = |value: &Value<'_>| matches!(value, Value::String(_) | Value::Object(_));
    let is_whole = |value: &Value<'_>| matches!(value, Value::Integer(_) | Value::Bool(_));
    if values.first().is_some_and(is_text) {
        let value = values.into_iter().map(bytes).collect::<Result<_, _>>()?;
        return Ok(Kind::BytesList(BytesList { value }));
    }
    if !values.is_empty() && values.iter().all(is_whole) {
        let value = values.into_iter().map(integer).collect::<Result<_, _>>()?;
        return Ok(Kind::Int64List(Int64List { value }));
    }
    let value = values.into_iter().map(float).collect::<Result<_, _>>()?;
    Ok(Kind::FloatList(FloatList { value }))
}

fn bytes(value: Value<'_>) -> Result<Bytes, String> {
    match value {
        Value::String(text) => Ok(Bytes::from(text.into_owned())),
        Value::Object(members) => match members.as_slice() {
            [(key, Value::String(text))] if key == "b64" => {
                let decoded = STANDARD.decode(text.as_bytes());
                decoded.map(Bytes::from).map_err(|error| format!("not base64: {error}"))
            }
            _ => Err("expected an object with the one key 'b64' and a string".to_owned()),
        },
        other => Err(unexpected("a string or {\"b64\": …}, as before", &other)),
    }
}

fn integer(value: Value<'_>) -> Result<i64, String> {
    match value {
        Value::Bool(value) => Ok(value.into()),
        Value::Integer(value) => i64::try_from(value)
            .map_err(|_| format!("{value} is beyond the range of int64, which features hold")),
        other => Err(unexpected("a whole number", &other)),
    }
}

fn float(value: Value<'_>) -> Result<f32, String> {
    let wide = match value {
        Value::Float(value) => value,
        Value::Integer(value) => value as f64,
        other => return Err(unexpected("a number, a string or {\"b64\": …}", &other)),
    };
    let narrow = wide as f32;
    if wide.is_finite() && !narrow.is_finite() {
        return Err(format!(
            "Cannot convert JSON value: {wide:e} to float without loss of precision"
        ));
    }
    Ok(narrow)
}

fn unexpected(expected: &str, found: &Value<'_>) -> String {
    format!("expected {expected}, found {}", found.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<(Option<Example>, Vec<Example>), InferError> {
        Ok(match parse(body.as_bytes())?.kind.expect("set") {
            input::Kind::ExampleList(list) => (None, list.examples),
            input::Kind::ExampleListWithContext(list) => (list.context, list.examples),
        })
    }

    fn feature(example: &Example, name: &str) -> Kind {
        example.features.as_ref().expect("set").feature[name].kind.clone().expect("set")
    }

    #[test]
    fn kinds() {
        let body = r#"{"examples": [{
            "i": [1, -2], "one": 3, "flag": [true, false], "f": [1.5, 2, NaN], "none": [],
            "s": ["a", {"b64": "/w=="}]
        }], "signature_name": "serving_default", "context": {"c": "x"}}"#;
        let (context, examples) = parsed(body).expect("reads");
        assert_eq!(
            feature(&context.expect("given"), "c"),
            Kind::BytesList(BytesList { value: vec![Bytes::from_static(b"x")] })
        );
        let example = &examples[0];
        let integers = |value| Kind::Int64List(Int64List { value });
        assert_eq!(feature(example, "i"), integers(vec![1, -2]));
        assert_eq!(feature(example, "one"), integers(vec![3]));
        assert_eq!(feature(example, "flag"), integers(vec![1, 0]));
        assert_eq!(feature(example, "none"), Kind::FloatList(FloatList { value: vec![] }));
        let Kind::FloatList(floats) = feature(example, "f") else { panic!("floats") };
        assert!(floats.value[..2] == [1.5, 2.0] && floats.value[2].is_nan());
        let strings = vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")];
        assert_eq!(feature(example, "s"), Kind::BytesList(BytesList { value: strings }));
    }

    #[test]
    fn refuses() {
        for (body, part) in [
            ("", "The document is empty"),
            ("{}", "key 'examples' is expected"),
            (r#"{"examples": []}"#, "'examples' value is an empty array"),
            (r#"{"examples": {}}"#, "examples: expected an array"),
            (r#"{"examples": [1]}"#, "examples[0]: expected an object"),
            (r#"{"examples": [{"x": ["a", 1]}]}"#, "examples[0].x: expected a string"),
            (r#"{"examples": [{"x": [1, "a"]}]}"#, "found a string"),
            (r#"{"examples": [{"x": [[1]]}]}"#, "found an array"),
            (r#"{"examples": [{"x": null}]}"#, "found null"),
            (r#"{"examples": [{"x": 18446744073709551615}]}"#, "range of int64"),
            (r#"{"examples": [{"x": 1e39}]}"#, "without loss of precision"),
            (r#"{"examples": [{"x": {"b64": "*"}}]}"#, "not base64"),
            (r#"{"examples": [{"x": {"b65": "aa"}}]}"#, "the one key 'b64'"),
            (r#"{"examples": [{"x": 1}], "signature_name": "s"}"#, "\"s\" not found"),
        ] {
            let error = parsed(body).expect_err(body).to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }
}
