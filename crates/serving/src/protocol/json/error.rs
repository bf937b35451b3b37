//! Why a JSON text was not understood.

use crate::error::InferError;

/// Where a text stops making sense, and what was expected there.
// Boxed, so that the results of the hot path stay in registers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{} at byte {}", self.0.location(), self.0.problem, self.0.offset)]
pub(crate) struct JsonError(Box<Detail>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Detail {
    offset: usize,
    /// The way from the root to the value, such as `inputs[0].data`.
    path: String,
    problem: String,
}

/// Characters of the client's own text that an error repeats.
const QUOTED: usize = 64;

impl JsonError {
    /// A problem with what stands at a byte offset.
    #[cold]
    pub(crate) fn new(offset: usize, problem: impl Into<String>) -> Self {
        Self(Box::new(Detail { offset, path: String::new(), problem: problem.into() }))
    }

    /// The same problem, with the thing named that has it.
    #[cold]
    pub(crate) fn of(mut self, thing: &str) -> Self {
        self.0.problem = format!("{thing}: {}", self.0.problem);
        self
    }

    /// The same problem, seen from the object that has the value under this key.
    #[cold]
    pub(crate) fn in_member(mut self, key: &str) -> Self {
        let separator =
            if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("{}{separator}{}", excerpt(key), self.0.path);
        self
    }

    /// The same problem, seen from the array that has the value at this index.
    #[cold]
    pub(crate) fn in_element(mut self, index: usize) -> Self {
        let separator =
            if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("[{index}]{separator}{}", self.0.path);
        self
    }
}

impl Detail {
    fn location(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) }
    }
}

impl From<JsonError> for InferError {
    fn from(error: JsonError) -> Self {
        Self::Invalid(format!("failed to parse the request JSON: {error}"))
    }
}

/// The start of a text from a client, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
