//! Kubernetes objects as YAML.

use serde::Serialize;

use crate::failure::failure;

/// One document alone.
pub(crate) fn document(object: impl Serialize) -> miette::Result<String> {
    // Through JSON, whose keys are sorted: two runs give the same bytes.
    let value = serde_json::to_value(object).map_err(failure)?;
    serde_saphyr::to_string_with_options(&value, options()).map_err(failure)
}

/// One document for each object.
pub(crate) fn documents<T: Serialize>(
    objects: impl IntoIterator<Item = T>,
) -> miette::Result<String> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&document(object)?);
    }
    Ok(text)
}

/// Kubernetes reads YAML 1.1, where a bare `on` is no text; long texts stay in one line.
fn options() -> serde_saphyr::SerializerOptions {
    serde_saphyr::ser_options! {
        yaml_12: false,
        prefer_block_scalars: true,
        folded_wrap_chars: usize::MAX,
        min_fold_chars: usize::MAX,
    }
}

#[test]
fn what_is_no_text_in_yaml_1_1_is_quoted() {
    let value = serde_json::json!({
        "a": "on", "b": "0x1F", "c": "1e3", "d": "12:30:45", "e": "0.5", "f": "no", "g": "~", "h": "",
        "i": "two\nlines\n", "j": "a: b", "k": "x".repeat(200) + " y", "l": 5, "m": true, "n": [],
        "o": "0o14", "p": "1_000", "q": "2026-11-26", "r": "=", "s": "- a", "t": "$(PORT)",
    });
    let text = documents([&value]).unwrap();
    insta::assert_snapshot!(text);
    let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(back, value);
}
