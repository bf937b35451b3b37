//! A request that works for a model, made from its metadata.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::status::Example;

/// More elements than this do not fit on a screen.
const INLINE: u64 = 64;

/// The part of the Open Inference Protocol's model metadata that is needed.
#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// Makes an example from the body of `GET /v2/models/NAME`. `None` if it is no such metadata.
pub(crate) fn example(metadata: &[u8]) -> Option<Example> {
    let metadata: Metadata = serde_json::from_slice(metadata).ok()?;
    let elements = metadata
        .inputs
        .iter()
        .map(Input::elements)
        .try_fold(0u64, |sum, count| sum.checked_add(count?))?;
    if elements <= INLINE {
        let inputs: Vec<Value> = metadata.inputs.iter().map(Input::inline).collect();
        return Some(Example::Body(json!({ "inputs": inputs }).to_string()));
    }
    let inputs: Vec<String> = metadata.inputs.iter().filter_map(Input::computed).collect();
    // JSON of names and shapes is Python as well.
    let body = format!("{{\"inputs\": [{}]}}", inputs.join(", "));
    Some(Example::Program(format!("import json; print(json.dumps({body}))")))
}

impl Input {
    /// Its shape with one for each dimension that is free.
    fn shape(&self) -> Vec<u64> {
        self.shape.iter().map(|size| u64::try_from(*size).unwrap_or(1)).collect()
    }

    fn elements(&self) -> Option<u64> {
        self.shape().iter().try_fold(1u64, |product, size| product.checked_mul(*size))
    }

    /// One plausible element of its type.
    fn element(&self, index: u64) -> Value {
        match self.datatype.as_str() {
            "BOOL" => json!(index.is_multiple_of(2)),
            "BYTES" => json!("text"),
            // Halves are exact in every floating-point type.
            name if name.starts_with("FP") || name.starts_with("BF") => {
                json!((index % 8) as f64 / 2.0 + 0.5)
            }
            _ => json!(1),
        }
    }

    fn inline(&self) -> Value {
        let data: Vec<Value> =
            (0..self.elements().unwrap_or(0)).map(|index| self.element(index)).collect();
        json!({ "name": self.name, "shape": self.shape(), "datatype": self.datatype, "data": data })
    }

    fn computed(&self) -> Option<String> {
        let element = match self.element(0) {
            Value::Bool(true) => "True".to_owned(),
            other => other.to_string(),
        };
        let name = serde_json::to_string(&self.name).ok()?;
        let datatype = serde_json::to_string(&self.datatype).ok()?;
        Some(format!(
            "{{\"name\": {name}, \"shape\": {:?}, \"datatype\": {datatype}, \"data\": [{element}] * {}}}",
            self.shape(),
            self.elements()?
        ))
    }
}

/// A command line that sends an example to a model.
pub fn curl(example: &Example, url: &str, needs_key: bool) -> String {
    let key = if needs_key { " -H \"Authorization: Bearer $API_KEY\"" } else { "" };
    match example {
        Example::Body(body) => format!("curl {url}{key} -d {}", quoted(body)),
        Example::Program(program) => {
            format!("python3 -c {} | curl {url}{key} -d @-", quoted(program))
        }
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_inputs_are_written_out() {
        let metadata = br#"{"name":"iris","inputs":[{"name":"X","datatype":"FP32","shape":[-1,2]},
            {"name":"it's","datatype":"BYTES","shape":[1]},{"name":"flag","datatype":"BOOL","shape":[]},
            {"name":"n","datatype":"INT64","shape":[2]}],"outputs":[]}"#;
        let example = example(metadata).unwrap();
        let Example::Body(body) = &example else { panic!("{example:?}") };
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            body["inputs"][0],
            json!({"name":"X","shape":[1,2],"datatype":"FP32","data":[0.5,1.0]})
        );
        assert_eq!(body["inputs"][1]["data"], json!(["text"]));
        assert_eq!(body["inputs"][2]["data"], json!([true]));
        assert_eq!(body["inputs"][3]["data"], json!([1, 1]));
        let line = curl(&example, "http://127.0.0.1:8080/v2/models/iris/infer", true);
        assert!(line.contains(r"it'\''s") && line.contains("$API_KEY"), "{line}");
    }

    #[test]
    fn large_inputs_are_computed() {
        let metadata = br#"{"inputs":[{"name":"image","datatype":"FP32","shape":[-1,3,224,224]}]}"#;
        let example = example(metadata).unwrap();
        let Example::Program(program) = &example else { panic!("{example:?}") };
        assert_eq!(
            program,
            "import json; print(json.dumps({\"inputs\": [{\"name\": \"image\", \"shape\": [1, 3, 224, 224], \"datatype\": \"FP32\", \"data\": [0.5] * 150528}]}))"
        );
    }

    #[test]
    fn what_is_no_metadata_gives_no_example() {
        assert_eq!(example(b"<html>"), None);
        assert_eq!(example(br#"{"name":"x"}"#), None);
        let endless =
            br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[9223372036854775807,9]}]}"#;
        assert_eq!(example(endless), None);
    }
}
