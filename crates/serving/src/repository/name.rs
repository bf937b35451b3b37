//! Names of models, which become parts of paths and URLs.

/// Longest name that every file system takes.
const MAX_BYTES: usize = 255;

/// Refuses a name that cannot be one part of a path.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_BYTES {
        "is longer than 255 bytes"
    } else if name.contains(['/', '\\']) || name == "." || name == ".." {
        "is a path"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    // Shown as a literal, since it may come from a client.
    Err(format!("the model name {name:.80?} {problem}"))
}

#[test]
fn table() {
    for good in ["iris", "my model", "ü", "a.b", "..."] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "../etc", "a/b", "a\\b", "a\0b", "a\nb", &long] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}
