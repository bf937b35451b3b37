//! Where in a configuration something was said.

use std::collections::BTreeMap;
use std::fmt::Display;

/// A place in a file, counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// What messages about a configuration call it, and where its fields are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    file: String,
    places: BTreeMap<String, Place>,
}

impl Origin {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), places: BTreeMap::new() }
    }

    pub(super) fn note(&mut self, path: &str, place: Place) {
        self.places.entry(path.to_owned()).or_insert(place);
    }

    /// A sentence about a place that is no field.
    pub(super) fn at(&self, place: Place, message: &dyn Display) -> String {
        format!("{}:{place}: {message}", self.file)
    }

    /// A sentence about a field, such as `input[0].dims`; about what holds it where it was not
    /// given.
    pub(crate) fn field(&self, path: &str, message: &dyn Display) -> String {
        let mut known = path;
        loop {
            if let Some(place) = self.places.get(known) {
                return format!("{}:{place}: {path}: {message}", self.file);
            }
            match known.rfind(['.', '[']) {
                Some(end) => known = known.get(..end).unwrap_or_default(),
                None => return self.whole(&format!("{path}: {message}")),
            }
        }
    }

    /// A sentence about the whole configuration.
    pub(crate) fn whole(&self, message: &dyn Display) -> String {
        if self.file.is_empty() { message.to_string() } else { format!("{}: {message}", self.file) }
    }
}
