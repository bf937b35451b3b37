use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// A configuration that uses all that has an effect.
const WHOLE: &str = r#"
# Comments end with the line.
name: "simple"
platform: 'onnxruntime' "_onnx"   # strings next to each other are one
backend: "onnxruntime",
max_batch_size: 0x10;
version_policy: { specific { versions: [1, 3] } }
input [
  { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] },
  < name: "\x79\u00e9\n" data_type: TYPE_STRING dims: 1 reshape { shape: [ ] } optional: true >
]
output { name: "z" data_type: 8 dims: 1 label_filename: "labels.txt" }
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: 4 preferred_batch_size: [ 8 ]
  max_queue_delay_microseconds: 200
  priority_levels: 2 default_priority_level: 1
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 7 }
  priority_queue_policy { key: 2 value { max_queue_size: 3 } }
}
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
parameters: { key: "version_labels", value { string_value: "stable=1" } }
model_warmup { name: "w" batch_size: 1 inputs {
  key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }
metric_tags [ { key: "team" value: "a" }, { key: "tier" value: "b" } ]
"#;

#[test]
fn reads_everything_that_has_an_effect() {
    let read = read_pbtxt("config.pbtxt", WHOLE).expect("valid");
    assert_eq!(read.warnings, [""; 0]);
    assert_eq!(read.parameters.intra_op_threads, Some(2));
    assert_eq!(read.parameters.version_labels["stable"], 1);
    let config = read.config;
    assert_eq!(config.platform, "onnxruntime_onnx");
    assert_eq!(config.max_batch_size, Some(16));
    assert_eq!(config.version_policy, Some(VersionPolicy::Specific { versions: vec![1, 3] }));
    assert_eq!(config.input[0].tensor.dims, [-1, 4]);
    assert_eq!(config.input[1].tensor.name, "yé\n");
    assert_eq!(config.input[1].tensor.reshape, Some(model::Reshape::default()));
    assert_eq!(config.output[0].tensor.data_type, Some(crate::DataType::Int32));
    let batching = config.dynamic_batching.expect("given");
    assert_eq!(batching.preferred_batch_size, [4, 8]);
    assert_eq!(batching.priority_queue_policy[&2].max_queue_size, Some(3));
    assert_eq!(config.model_warmup[0].inputs["x"].zero_data, Some(true));
    assert_eq!(config.metric_tags["tier"], "b");
}

#[test]
fn json_says_the_same() {
    let from_text = read_pbtxt("config.pbtxt", WHOLE).expect("valid").config;
    let json = serde_json::to_string(&from_text).expect("serialises");
    assert_eq!(read_json(&json).expect("valid").config, from_text);
    // Camel case, numbers as strings and numbers of enumerations, as protocol buffers allow.
    let other = r#"{"maxBatchSize": "8", "input": [{"name": "x", "dataType": 11, "dims": ["4"]}]}"#;
    let config = read_json(other).expect("valid").config;
    assert_eq!(config.max_batch_size, Some(8));
    assert_eq!(config.input[0].tensor.data_type, Some(crate::DataType::Fp32));
    assert_eq!(config.input[0].tensor.dims, [4]);
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let problems = read_pbtxt("config.pbtxt", text).expect_err(text).join("\n");
    for part in parts {
        assert!(problems.contains(part), "{part:?} is not in: {problems}");
    }
}

#[test]
fn mistakes_in_text() {
    refused("max_batch_sise: 4", &["config.pbtxt:1:1:", "'max_batch_size'"]);
    refused("max_batch_size: 4\ninput [ {", &[":2:10:", "opened at 2:9", "end of the file"]);
    refused("input [ { name: \"x\" ]", &[":1:21:", "found ']'"]);
    refused("name \"x\"", &[":1:6:", "expected ':'"]);
    refused("name: \"x", &[":1:7:", "no end"]);
    refused("name: \"\\q\"", &[":1:8:", "escape"]);
    refused("name: \"\\xff\"", &["not UTF-8"]);
    refused("name: 7", &["a string in quotes"]);
    refused("name: \"a\" name: \"b\"", &[":1:11:", "twice"]);
    refused("max_batch_size: 3000000000", &["-2147483648 to 2147483647"]);
    refused("max_batch_size: 1.5", &["whole number"]);
    refused("max_batch_size: -", &["behind '-'"]);
    refused("max_batch_size: { }", &["whole number"]);
    refused("input: 3", &["message in braces"]);
    refused("input { data_type: TYPE_FP99 }", &["TYPE_FP99", "TYPE_FP"]);
    refused("dynamic_batching { } sequence_batching { }", &["excludes 'dynamic_batching'"]);
    refused("[a.b]: 1", &["extensions"]);
    refused("}", &["expected a field"]);
    refused("name: \"a\" §", &["'§'"]);
    refused(&"input {".repeat(5000), &["nested deeper"]);
    refused("metric_tags { key: \"a\" } metric_tags { key: \"a\" }", &["'a' is given twice"]);
    // All of them, not the first.
    refused("nmae: \"x\"\nplatfrom: \"y\"", &["1:1", "'name'", "2:1", "'platform'"]);
}

#[test]
fn mistakes_in_meaning() {
    refused("backend: \"python\"", &["config.pbtxt:1:1:", "python", "onnxruntime"]);
    refused("platform: \"tensorflow_savedmodel\"", &["tensorflow_savedmodel"]);
    refused("max_batch_size: -1", &["0 or more"]);
    refused("input { name: \"x\" }", &["input[0]", "lacks dims"]);
    refused("input { name: \"x\" dims: 0 }", &["got 0"]);
    refused("output { name: \"x\" dims: 4 reshape { shape: 3 } }", &["other elements"]);
    refused("input [{name:\"x\" dims:1},{name:\"x\" dims:1}]", &["declared twice"]);
    refused("output { name: \"x\" dims: 1 label_filename: \"../x\" }", &["leaves"]);
    refused("default_model_filename: \"/etc/passwd\"", &["leaves"]);
    refused("version_policy { latest { num_versions: 0 } }", &["above 0"]);
    refused("version_policy { specific { } }", &["no versions"]);
    refused("instance_group { count: -1 }", &["instance_group[0].count"]);
    let batching = |text: &str| format!("max_batch_size: 4 dynamic_batching {{ {text} }}");
    refused(&batching("preferred_batch_size: 8"), &["at most max_batch_size 4, got 8"]);
    refused(&batching("preferred_batch_size: 0"), &["above 0"]);
    refused(&batching("priority_levels: 2"), &["1 to 2, got 0"]);
    refused(&batching("priority_queue_policy { key: 1 value { } }"), &["0 priority levels"]);
    refused(
        &batching("preserve_ordering: true priority_levels: 2 default_priority_level: 1"),
        &["excludes priority levels"],
    );
    refused(
        "parameters { key: \"intra_op_thread_count\" value { string_value: \"two\" } }",
        &["number of threads", "two"],
    );
}

#[test]
fn mistakes_in_json() {
    for (text, part) in [
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        (r#"{"max_batch_sise": 1}"#, "max_batch_size"),
        (r#"{"max_batch_size": 1.5}"#, "max_batch_size: expected a whole number"),
        (r#"{"input": {}}"#, "input: expected an array"),
        (r#"{"input": [{"data_type": "TYPE_FP99"}]}"#, "input[0].data_type: unknown value"),
        (r#"{"backend": "python"}"#, "python"),
        (r#"{"max_batch_size": 1, "maxBatchSize": 2}"#, "twice"),
    ] {
        let problems = read_json(text).expect_err(text).join("\n");
        assert!(problems.contains(part), "{part:?} is not in: {problems}");
    }
}

#[test]
fn fields_without_effect_are_named() {
    let warnings = |text: &str| read_pbtxt("config.pbtxt", text).expect(text).warnings;
    assert_eq!(
        warnings(
            "optimization { graph { level: 1 } }\ninput { name: \"x\" dims: 1 format: FORMAT_NCHW }"
        ),
        [
            "config.pbtxt:1:1: optimization is not supported and has no effect",
            "config.pbtxt:2:27: input[0].format is not supported and has no effect",
        ]
    );
    assert!(warnings("sequence_batching { }")[0].contains("sequence_batching"));
    assert!(
        warnings("parameters { key: \"execution_mode\" value { string_value: \"1\" } }")[0]
            .contains("parameters[execution_mode]: is not supported")
    );
    // A default would have none anywhere.
    assert_eq!(warnings("model_transaction_policy { decoupled: false }"), [""; 0]);
}

/// Prints what the parser reads, in a form that shares no code with it.
fn print(map: &Map<String, Value>) -> String {
    fn plain(key: &str, value: &Value) -> String {
        match value {
            // Debug escapes as the format does, but for NUL and braces around code points.
            Value::String(text) if key != "data_type" => {
                let escaped: String =
                    text.chars().map(|it| format!("\\U{:08x}", u32::from(it))).collect();
                format!("\"{escaped}\"")
            }
            Value::String(name) => name.clone(),
            other => other.to_string(),
        }
    }
    let mut text = String::new();
    for (key, value) in map {
        match value {
            Value::Object(entries) if key == "metric_tags" => {
                for (tag, value) in entries {
                    let tag = plain("", &Value::String(tag.clone()));
                    text += &format!("{key} {{ key: {tag} value: {} }}\n", plain("", value));
                }
            }
            Value::Object(message) => text += &format!("{key} {{ {} }}\n", print(message)),
            Value::Array(list) if list.iter().any(Value::is_object) => {
                for message in list.iter().filter_map(Value::as_object) {
                    text += &format!("{key} {{ {} }}\n", print(message));
                }
            }
            Value::Array(list) => {
                let list: Vec<String> = list.iter().map(|value| plain(key, value)).collect();
                text += &format!("{key}: [{}]\n", list.join(", "));
            }
            value => text += &format!("{key}: {}\n", plain(key, value)),
        }
    }
    text
}

fn configs() -> impl Strategy<Value = Value> {
    let tensor = ("[a-zé\n\"\\\\]{1,5}", prop::collection::vec(1i64..9, 1..4))
        .prop_map(|(name, dims)| json!({"name": name, "data_type": "TYPE_FP32", "dims": dims}));
    let tags = prop::collection::btree_map("[a-z]{1,3}", ".{0,5}", 0..3);
    (0i32..100, prop::collection::vec(tensor, 0..2), tags, any::<u64>()).prop_map(
        |(size, input, tags, delay)| {
            json!({
                "max_batch_size": size, "input": input, "metric_tags": tags,
                "dynamic_batching": {"max_queue_delay_microseconds": delay},
            })
        },
    )
}

proptest! {
    #[test]
    fn text_and_json_are_one(config in configs()) {
        // Two inputs may get the same name, which is refused the same way in both forms.
        let text = print(config.as_object().expect("an object"));
        let from_json = read_json(&config.to_string()).map(|read| read.config);
        let from_text = read_pbtxt("config.pbtxt", &text).map(|read| read.config);
        prop_assert_eq!(from_json.is_ok(), from_text.is_ok());
        if let (Ok(one), Ok(other)) = (from_json, from_text) {
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = read_pbtxt("config.pbtxt", &text);
        let _ = read_json(&text);
    }

    #[test]
    fn any_change_is_read_or_refused(at in 0usize..WHOLE.len(), put in "[ -~é\n]{0,3}", cut in 0usize..9) {
        let mut characters: Vec<char> = WHOLE.chars().collect();
        let end = (at + cut).min(characters.len());
        characters.splice(at.min(end)..end, put.chars());
        let changed: String = characters.into_iter().collect();
        if let Err(problems) = read_pbtxt("config.pbtxt", &changed) {
            prop_assert!(problems.iter().all(|problem| problem.starts_with("config.pbtxt")));
        }
    }
}
