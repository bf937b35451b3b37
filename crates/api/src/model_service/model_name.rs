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
