//! Where something stands in a text.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::ModelService;

/// A text and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A file's path, or a word such as `stdin`.
    pub name: String,
    pub text: String,
}

/// A stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Bytes of the text; on boundaries of characters.
    pub span: Range<usize>,
}

/// A resource and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    pub value: T,
    pub source: Arc<Source>,
    /// The document's first line, not its comments.
    pub at: Place,
}

impl Located<ModelService> {
    /// The resource with a relative `file://` uri joined to the folder of its manifest.
    pub fn relative_to(mut self, folder: &Path) -> ModelService {
        self.value.spec.model.uri = self.value.spec.model.uri.relative_to(folder);
        self.value
    }
}
