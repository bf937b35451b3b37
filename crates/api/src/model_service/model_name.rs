//! The name that requests call a model by.
//!
//! A service's name is a DNS label, since it becomes a Service's; a model's need not be. Where they
//! differ, the annotation [`MODEL_NAME`] has the model's.

use super::ModelService;

/// The annotation with the name that requests call the model by, in place of the service's name.
pub const MODEL_NAME: &str = "trainyard.dev/model-name";

/// Longest name that every file system takes: models are files and folders too.
const LONGEST: usize = 255;

impl ModelService {
    /// The name that requests call the model by; the service's unless the annotation says another.
    /// Empty if it has neither.
    pub fn model_name(&self) -> &str {
        let annotations = self.metadata.annotations.as_ref();
        let annotated = annotations.and_then(|annotations| annotations.get(MODEL_NAME));
        annotated.or(self.metadata.name.as_ref()).map(String::as_str).unwrap_or_default()
    }
}

/// Why a text cannot name a model in every protocol; none if it can. It completes the sentence
/// "the name …".
pub fn wrong_model_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > LONGEST {
        Some("is longer than 255 bytes")
    } else if name.contains(['/', '\\']) || matches!(name, "." | "..") {
        Some("is a path")
    } else if name.contains(':') {
        // `/v1/models/NAME:predict`.
        Some("holds a `:`, which ends a model's name in TensorFlow Serving's paths")
    } else if name.chars().any(char::is_control) {
        Some("holds a control character")
    } else if name.starts_with('-') {
        // It is an argument of the model server.
        Some("begins with `-`")
    } else if name.trim() != name {
        Some("begins or ends with a space")
    } else {
        None
    }
}

/// [`wrong_model_name`] as rules in CEL, each with its message: what a text that names a model must
/// be. `name` is the expression for the text. Schemas have no rules for annotations, so an API
/// server needs a policy for this one.
pub fn model_name_rules(name: &str) -> Vec<(String, &'static str)> {
    let rules: [(&str, &str); 6] = [
        ("size(bytes(NAME)) > 0 && size(bytes(NAME)) <= 255", "must have 1 to 255 bytes"),
        (r"!NAME.matches('[/\\\\]') && NAME != '.' && NAME != '..'", "must not be a path"),
        (
            "!NAME.contains(':')",
            "must not hold a `:`, which ends a model's name in TensorFlow Serving's paths",
        ),
        (r"!NAME.matches('[\\x00-\\x1f\\x7f-\\x9f]')", "must not hold a control character"),
        ("!NAME.startsWith('-')", "must not begin with `-`"),
        (
            r"!NAME.matches('^[\\s\\p{Z}]') && !NAME.matches('[\\s\\p{Z}]$')",
            "must not begin or end with a space",
        ),
    ];
    rules.into_iter().map(|(rule, message)| (rule.replace("NAME", name), message)).collect()
}

/// A name as one part of a path: whatever could end it is percent-encoded.
pub fn path_segment(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[test]
fn segments() {
    assert_eq!(path_segment("my model/ä"), "my%20model%2F%C3%A4");
    assert_eq!(path_segment("a_b-c.d~1"), "a_b-c.d~1");
}

#[test]
fn table() {
    for good in ["iris", "my_model", "My Model", "v2.1", "日本", "a-b", "..."] {
        assert_eq!(wrong_model_name(good), None, "{good}");
    }
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "a/b", "a\\b", "a:b", "a\nb", "-x", " a", "a ", &long] {
        assert!(wrong_model_name(bad).is_some(), "{bad}");
    }
}

#[test]
fn the_rules_in_cel_say_the_same() {
    let rules: Vec<_> = model_name_rules("self")
        .into_iter()
        .map(|(rule, message)| serde_json::json!({"rule": rule, "message": message}))
        .collect();
    let schema = serde_json::json!({"type": "string", "x-kubernetes-validations": rules});
    let compiled = kube::core::cel::compile_schema(&schema);
    assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
    let longest = "ä".repeat(127);
    let too_long = "ä".repeat(128);
    for name in [
        "iris",
        "My Model",
        "日本",
        "...",
        "a-b",
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a:b",
        "a\nb",
        "a\u{9f}",
        "-x",
        " a",
        "a ",
        "\u{a0}a",
        "a\u{2003}",
        &longest,
        &too_long,
    ] {
        let taken =
            kube::core::cel::validate_compiled(&compiled, &serde_json::json!(name), None).is_ok();
        assert_eq!(taken, wrong_model_name(name).is_none(), "{name:?}");
    }
}
