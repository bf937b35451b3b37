use super::*;
use crate::protocol::json::{TensorText, Writer};

fn spec(name: &str, data_type: DataType, optional: bool) -> TensorSpec {
    TensorSpec { name: name.to_owned(), data_type, dims: vec![None], optional, labels: Vec::new() }
}

fn one(data_type: DataType) -> Signature {
    Signature { inputs: vec![spec("x", data_type, false)], outputs: Vec::new() }
}

fn two() -> Signature {
    let inputs = vec![
        spec("a", DataType::Fp32, false),
        spec("b", DataType::Bytes, false),
        spec("c", DataType::Int8, true),
    ];
    Signature { inputs, outputs: Vec::new() }
}

/// Inputs as `name [shape] elements`.
#[track_caller]
fn check(signature: &Signature, body: &str, expected: Result<(Form, &[&str]), &str>) {
    match (parse(body.as_bytes(), signature), expected) {
        (Ok((inputs, form)), Ok(expected)) => {
            let described: Vec<String> = inputs.iter().map(describe).collect();
            assert_eq!(
                (form, described.as_slice()),
                (expected.0, &owned(expected.1)[..]),
                "{body}"
            );
        }
        (Err(error), Err(part)) => {
            assert!(error.to_string().contains(part), "{body}: {error}");
        }
        (read, expected) => panic!("{body}: {read:?}, expected {expected:?}"),
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn describe((name, tensor): &(String, Tensor)) -> String {
    let mut writer = Writer::default();
    TensorText::new(tensor, BytesForm::Text).expect("is text").flat(&mut writer);
    let elements = String::from_utf8(writer.finish()).expect("is text");
    format!("{name} {:?} {elements}", tensor.shape())
}

#[test]
fn rows() {
    use Form::Rows;
    let floats = &one(DataType::Fp32);
    check(floats, r#"{"instances": [1, 2.5]}"#, Ok((Rows, &["x [2] [1.0,2.5]"])));
    check(
        floats,
        r#"{"instances": [[1, 2], [3, NaN]]}"#,
        Ok((Rows, &["x [2, 2] [1.0,2.0,3.0,NaN]"])),
    );
    check(
        floats,
        r#"{"instances": [{"x": [1]}, {"x": [2]}]}"#,
        Ok((Rows, &["x [2, 1] [1.0,2.0]"])),
    );
    check(
        floats,
        r#"{"signature_name": "serving_default", "instances": [1], "mine": {"a": [null]}}"#,
        Ok((Rows, &["x [1] [1.0]"])),
    );
    let strings = &one(DataType::Bytes);
    check(
        strings,
        r#"{"instances": ["a", {"b64": "aGk="}]}"#,
        Ok((Rows, &[r#"x [2] ["a","hi"]"#])),
    );
    check(strings, r#"{"instances": [{"x": {"b64": "aGk="}}]}"#, Ok((Rows, &[r#"x [1] ["hi"]"#])));
    check(
        &two(),
        r#"{"instances": [{"a": 1, "b": "p"}, {"b": "q", "a": 2}]}"#,
        Ok((Rows, &["a [2] [1.0,2.0]", r#"b [2] ["p","q"]"#])),
    );
    check(
        &two(),
        r#"{"instances": [{"a": 1, "b": "p", "c": 3}]}"#,
        Ok((Rows, &["a [1] [1.0]", r#"b [1] ["p"]"#, "c [1] [3]"])),
    );

    check(floats, r#"{"instances": []}"#, Err("No values in 'instances'"));
    check(floats, r#"{"instances": 1}"#, Err("instances: expected an array, found 1"));
    check(floats, r#"{"instances": [[1], [2, 3]]}"#, Err("instances[1]: expected 1 elements"));
    check(floats, r#"{"instances": [{"y": 1}]}"#, Err("no input of that name; its inputs: x"));
    check(floats, r#"{"instances": [{"x": 1}, 2]}"#, Err("expected object as before"));
    check(floats, r#"{"instances": [1, {"x": 2}]}"#, Err("expected value/list as before"));
    check(&two(), r#"{"instances": [1]}"#, Err("an object with the inputs by name: a,b,c"));
    check(&two(), r#"{"instances": [{"a": 1}]}"#, Err("keys must be equal to: a,b,c"));
    let other = r#"{"instances": [{"a": 1, "b": "p"}, {"a": 1, "c": 1}]}"#;
    check(&two(), other, Err("the same keys"));
    let fewer = r#"{"instances": [{"a": 1, "b": "p", "c": 1}, {"a": 1, "b": "q"}]}"#;
    check(&two(), fewer, Err("keys must be equal"));
    check(&one(DataType::Int32), r#"{"instances": [[1.5]]}"#, Err("found 1.5"));
    check(floats, r#"{"instances": [{"b64": "aGk="}]}"#, Err("no input of that name"));
}

#[test]
fn columns() {
    use Form::Columns;
    let floats = &one(DataType::Fp32);
    check(floats, r#"{"inputs": [[1, 2]]}"#, Ok((Columns, &["x [1, 2] [1.0,2.0]"])));
    check(floats, r#"{"inputs": 7}"#, Ok((Columns, &["x [] [7.0]"])));
    check(floats, r#"{"inputs": {"x": [1]}}"#, Ok((Columns, &["x [1] [1.0]"])));
    let strings = &one(DataType::Bytes);
    check(strings, r#"{"inputs": {"b64": "aGk="}}"#, Ok((Columns, &[r#"x [] ["hi"]"#])));
    check(
        &two(),
        r#"{"inputs": {"b": ["p"], "a": [1]}}"#,
        Ok((Columns, &["a [1] [1.0]", r#"b [1] ["p"]"#])),
    );

    check(&two(), r#"{"inputs": {"a": [1]}}"#, Err("Missing named input: b"));
    check(&two(), r#"{"inputs": {"a": [1], "z": [1]}}"#, Err("inputs.z: the model has no input"));
    check(&two(), r#"{"inputs": {"a": [1], "a": [1]}}"#, Err("given twice"));
    check(&two(), r#"{"inputs": [1]}"#, Err("inputs by name: a,b,c"));
    check(strings, r#"{"inputs": {"b64": "*"}}"#, Err("not base64"));
}

#[test]
fn bodies_that_are_no_request() {
    let floats = &one(DataType::Fp32);
    check(floats, "", Err("The document is empty"));
    check(floats, "[]", Err("expected an object"));
    check(floats, "{}", Err("Missing 'inputs' or 'instances' key"));
    check(
        floats,
        r#"{"instances": [1], "inputs": [1]}"#,
        Err("only one of 'inputs' or 'instances'"),
    );
    check(
        floats,
        r#"{"signature_name": 1, "inputs": [1]}"#,
        Err("signature_name: expected a string"),
    );
    check(floats, r#"{"signature_name": "other", "inputs": [1]}"#, Err("\"other\" not found"));
    check(floats, r#"{"inputs": [1]}x"#, Err("nothing after the value"));
    let none = Signature::default();
    check(&none, r#"{"inputs": [1]}"#, Err("inputs by name"));
    check(&none, r#"{"inputs": {}}"#, Ok((Form::Columns, &[])));
}
