//! Libraries' errors as reports for people.

use std::error::Error;

use miette::{Report, miette};

/// A report that says the error and its causes, in one line.
pub(crate) fn failure(error: impl Error) -> Report {
    miette!("{}", in_full(&error))
}

/// The error and its causes, in one line.
pub(crate) fn in_full(error: &impl Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
