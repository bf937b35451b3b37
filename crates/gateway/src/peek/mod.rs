//! Finds the model that a body names in its first bytes.

pub(crate) mod json;
pub(crate) mod message;

/// What the first bytes of a body say about its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peek {
    Found(String),
    /// The body is whole so far, or at its end, and names none.
    Missing,
    NeedMore,
    /// The body cannot be read at all.
    Broken,
}
