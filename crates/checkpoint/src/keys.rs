//! What things are called in a store.
//!
//! ```text
//! steps/NAME/LABEL/00000-of-00004.json    what one worker saved of a checkpoint
//! chunks/ab/ab12…                         content, by its SHA-256
//! starts/ATTEMPT                          what the workers of one start restored
//! locks/…                                 who publishes or removes at the moment
//! ```

use std::fmt::Write;

use crate::manifest::Part;

pub(crate) const STEPS: &str = "steps";
pub(crate) const CHUNKS: &str = "chunks";
pub(crate) const LOCKS: &str = "locks";
const STARTS: &str = "starts";
/// What a file store leaves of a write that was killed.
pub(crate) const STAGING: &str = "tmp";

/// Longest name that is kept as it is; longer ones are cut and told apart by a hash.
const MAX_NAME_BYTES: usize = 160;

pub(crate) fn chunk(sha256: &str) -> String {
    let folder = sha256.get(..2).unwrap_or_default();
    format!("{CHUNKS}/{folder}/{sha256}")
}

pub(crate) fn manifest(name: &str, label: &str, part: Part) -> String {
    let (name, label) = (escape(name), escape(label));
    format!("{STEPS}/{name}/{label}/{:05}-of-{:05}.json", part.index, part.of)
}

pub(crate) fn start(attempt: &str) -> String {
    format!("{STARTS}/{}", escape(attempt))
}

/// A name of letters, digits and `._-` that no other name is escaped to.
pub(crate) fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' if at > 0);
        if is_plain {
            escaped.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "_{byte:02x}");
        }
    }
    if escaped.len() > MAX_NAME_BYTES {
        let hash = crate::chunk::sha256(name.as_bytes());
        escaped.truncate(MAX_NAME_BYTES.saturating_sub(66));
        // `__` comes of no byte.
        let _ = write!(escaped, "__{hash}");
    }
    if escaped.is_empty() {
        escaped.push_str("__");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        let check = |name, expected: &str| assert_eq!(escape(name), expected);
        check("step-100", "step-100");
        check("epoch=3.ckpt", "epoch_3d3.ckpt");
        check("..", "_2e.");
        check("", "__");
        check("é", "_c3_a9");
        check("a/b_c", "a_2fb_5fc");
    }

    proptest! {
        #[test]
        fn names_stay_apart(a in ".{0,200}", b in ".{0,200}") {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
            let key = manifest(&a, &b, Part { index: 0, of: 1 });
            prop_assert!(trainyard_storage::check_path(&key).is_ok(), "{}", key);
        }
    }
}
