//! Libraries' errors as reports for people.

use std::error::Error;

use miette::{Report, miette};
pub(crate) use trainyard_storage::in_full;

/// A report that says the error and its causes, in one line.
pub(crate) fn failure(error: impl Error) -> Report {
    miette!("{}", in_full(&error))
}
