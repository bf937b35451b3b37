//! The problems of a manifest, as data.

use std::fmt;
use std::sync::Arc;

use super::located::{Place, Source};

/// Every problem of one text, in the order of the text. Never empty.
///
/// Its `Display` has a line for each problem: `FILE:LINE:COLUMN: MESSAGE (HELP)`. To draw carets,
/// use [`Problem::at`] with the text in `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestErrors {
    pub source: Arc<Source>,
    pub problems: Vec<Problem>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// The field, such as `spec.scaling.max` or `spec.runtime.env[2].name`; empty for the document.
    pub path: String,
    /// What was expected and what came. Lower case, no full stop.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    /// Where to put the caret, and what to write there.
    pub at: Mark,
    /// Another place that matters, such as the first of two equal keys.
    pub also: Option<Mark>,
}

/// A place with a few words on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub place: Place,
    pub label: String,
}

/// Kinds of problems: what a tool can tell apart without reading the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// The text is no YAML, no UTF-8, or larger than any manifest.
    Syntax,
    /// No such `apiVersion` and `kind`.
    UnknownResource,
    /// No such field.
    UnknownField,
    /// The same key twice in one mapping.
    DuplicateKey,
    /// A required field is not there.
    MissingField,
    /// A mapping where text belongs, and the like.
    WrongType,
    /// None of the values that the field can have.
    UnknownValue,
    /// A number too small or too large, a text or list too short or too long.
    OutOfRange,
    /// A text that is not of the form that the field needs.
    BadFormat,
    /// Fields that do not go together.
    Rule,
}

impl ProblemKind {
    /// A stable name, for JSON output and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::UnknownResource => "unknown-resource",
            Self::UnknownField => "unknown-field",
            Self::DuplicateKey => "duplicate-key",
            Self::MissingField => "missing-field",
            Self::WrongType => "wrong-type",
            Self::UnknownValue => "unknown-value",
            Self::OutOfRange => "out-of-range",
            Self::BadFormat => "bad-format",
            Self::Rule => "rule",
        }
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let Place { line, column, .. } = problem.at.place;
            write!(f, "{}:{line}:{column}: {}", self.source.name, problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ManifestErrors {}
