//! A node of a document, as rules see it.

use super::scalar;
use super::tree::{Content, File, Raw, RawEntry, Span};
use crate::duration::duration;
use crate::quantity::Quantity;

/// A value of a document, or the absence of one.
///
/// What is asked of a missing node is missing too, so that rules read as paths do:
/// `object.root.path("spec.template.spec").get("tolerations").items()` is empty wherever the chain
/// breaks. A missing node remembers the nearest node that is there: a finding about what is absent
/// points to where it belongs.
#[derive(Clone, Copy)]
pub struct Node<'b> {
    file: &'b File,
    id: u32,
    missing: bool,
}

#[cfg(test)]
thread_local! {
    /// Keys that this thread has looked for: how much work rules are, on any machine.
    pub(crate) static LOOKUPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A key and its value.
#[derive(Clone, Copy)]
pub struct Entry<'b> {
    pub key: &'b str,
    pub key_span: Span,
    pub value: Node<'b>,
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.missing { "nothing in " } else { "" }, self.path_text())
    }
}

/// Equal if they are one node of one document, not if they hold equal values.
impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.missing == other.missing && self.file.index == other.file.index
    }
}

impl<'b> Node<'b> {
    pub(super) fn new(file: &'b File, id: u32) -> Self {
        Self { file, id, missing: false }
    }

    fn raw(self) -> Option<&'b Raw> {
        self.file.nodes.get(self.id as usize)
    }

    fn content(self) -> Option<Content> {
        if self.missing { None } else { self.raw().map(|raw| raw.content) }
    }

    fn absent(self) -> Self {
        Self { missing: true, ..self }
    }

    fn with(self, id: u32) -> Self {
        Self { id, ..self }
    }

    fn raw_entries(self) -> &'b [RawEntry] {
        match self.content() {
            Some(Content::Mapping { first, end }) => {
                self.file.entries.get(first as usize..end as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }

    fn raw_items(self) -> &'b [u32] {
        match self.content() {
            Some(Content::List { first, end }) => {
                self.file.items.get(first as usize..end as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// The value of a key; missing unless this is a mapping that has it.
    #[must_use]
    pub fn get(self, key: &str) -> Self {
        #[cfg(test)]
        LOOKUPS.with(|count| count.set(count.get() + 1));
        let found = self.raw_entries().iter().find(|entry| self.file.is_text(entry.key, key));
        match found {
            Some(entry) => self.with(entry.value),
            None => self.absent(),
        }
    }

    /// The value of a path of keys such as `spec.template.spec`. Keys that hold a dot need
    /// [`Node::get`].
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        // By bytes: a path is short, and a search for characters costs more than it.
        path.as_bytes()
            .split(|&byte| byte == b'.')
            .fold(self, |node, key| node.get(std::str::from_utf8(key).unwrap_or_default()))
    }

    /// An item of a list, numbered from 0.
    #[must_use]
    pub fn item(self, index: usize) -> Self {
        match self.raw_items().get(index) {
            Some(&id) => self.with(id),
            None => self.absent(),
        }
    }

    /// Whether there is a value, be it null.
    #[must_use]
    pub fn exists(self) -> bool {
        !self.missing
    }

    /// Whether there is a value that is not null: a null field counts as unset to Kubernetes.
    #[must_use]
    pub fn is_set(self) -> bool {
        !self.missing && !self.is_null()
    }

    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.content(), Some(Content::Scalar { text, plain: true })
            if scalar::is_null(self.file.text_of(text)))
    }

    #[must_use]
    pub fn is_map(self) -> bool {
        matches!(self.content(), Some(Content::Mapping { .. }))
    }

    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self.content(), Some(Content::List { .. }))
    }

    #[must_use]
    pub fn is_scalar(self) -> bool {
        matches!(self.content(), Some(Content::Scalar { .. }))
    }

    /// Whether it is a scalar in quotes or a block, which is a text whatever it looks like.
    #[must_use]
    pub fn is_quoted(self) -> bool {
        matches!(self.content(), Some(Content::Scalar { plain: false, .. }))
    }

    /// Items of a list; none of anything else.
    pub fn items(
        self,
    ) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator + Clone + use<'b> {
        self.raw_items().iter().map(move |&id| self.with(id))
    }

    /// Entries of a mapping; none of anything else.
    pub fn entries(
        self,
    ) -> impl DoubleEndedIterator<Item = Entry<'b>> + ExactSizeIterator + Clone + use<'b> {
        self.raw_entries().iter().map(move |entry| Entry {
            key: self.file.text_of(entry.key),
            key_span: entry.key_span,
            value: self.with(entry.value),
        })
    }

    /// Number of items or entries.
    #[must_use]
    pub fn len(self) -> usize {
        self.raw_items().len() + self.raw_entries().len()
    }

    /// Whether it has neither items nor entries; a scalar has none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A scalar's text, whatever its type; none of null.
    #[must_use]
    pub fn text(self) -> Option<&'b str> {
        match self.content() {
            Some(Content::Scalar { text, plain }) => {
                let text = self.file.text_of(text);
                (!plain || !scalar::is_null(text)).then_some(text)
            }
            _ => None,
        }
    }

    /// A scalar's text, empty if there is none: for names and labels, which are never empty.
    #[must_use]
    pub fn str(self) -> &'b str {
        self.text().unwrap_or_default()
    }

    /// Whether it is a scalar with this text.
    #[must_use]
    pub fn is(self, text: &str) -> bool {
        self.text() == Some(text)
    }

    /// A plain scalar that is a truth value.
    #[must_use]
    pub fn bool(self) -> Option<bool> {
        match self.content() {
            Some(Content::Scalar { text, plain: true }) => scalar::boolean(self.file.text_of(text)),
            _ => None,
        }
    }

    /// A plain scalar that is a whole number.
    #[must_use]
    pub fn int(self) -> Option<i64> {
        match self.content() {
            Some(Content::Scalar { text, plain: true }) => scalar::integer(self.file.text_of(text)),
            _ => None,
        }
    }

    /// An amount in Kubernetes' notation, such as `500m` or `8Gi`, in quotes or not.
    #[must_use]
    pub fn quantity(self) -> Option<Quantity> {
        self.text().and_then(Quantity::parse)
    }

    /// A length of time in Go's notation, such as `1h30m`, in seconds.
    #[must_use]
    pub fn duration(self) -> Option<f64> {
        self.text().and_then(duration)
    }

    #[must_use]
    pub fn file(self) -> &'b File {
        self.file
    }

    /// The bytes of the value; of what is missing: of the nearest node that is there.
    #[must_use]
    pub fn span(self) -> Span {
        self.raw().map_or(Span::default(), |raw| raw.span)
    }

    /// The bytes of the key before it, if there is one.
    #[must_use]
    pub fn key_span(self) -> Option<Span> {
        self.raw().map(|raw| raw.key).filter(|key| key.end > 0)
    }

    /// The key before it, empty if there is none.
    #[must_use]
    pub fn key(self) -> &'b str {
        let Some(raw) = self.raw() else { return "" };
        self.parent()
            .raw_entries()
            .iter()
            .find(|entry| entry.key_span == raw.key)
            .map_or("", |entry| self.file.text_of(entry.key))
    }

    /// What a finding about this node points to: a scalar itself, the key of a collection, and
    /// for what is missing the key of what lacks it.
    #[must_use]
    pub fn place(self) -> Span {
        let Some(raw) = self.raw() else { return Span::default() };
        match raw.content {
            Content::Scalar { .. } if !self.missing && raw.span.end > raw.span.start => raw.span,
            _ if raw.key.end > 0 => raw.key,
            // An item of a list: its first key stands for it.
            Content::Mapping { .. } => Self { missing: false, ..self }
                .raw_entries()
                .first()
                .map_or(Span { start: raw.span.start, end: raw.span.start }, |e| e.key_span),
            Content::List { .. } | Content::Scalar { .. } => raw.span,
        }
    }

    /// The collection that holds it; of a missing node, the nearest node that is there; of a root,
    /// itself.
    #[must_use]
    pub fn parent(self) -> Self {
        if self.missing {
            return Self { missing: false, ..self };
        }
        self.raw().map_or(self, |raw| self.with(raw.parent))
    }

    /// Whether it is the root of a document.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.raw().is_none_or(|raw| raw.parent == self.id)
    }

    /// Itself, its parent, and so on up to the document's root.
    pub fn ancestors(self) -> impl Iterator<Item = Self> + use<'b> {
        std::iter::successors(Some(self), |node| {
            (node.missing || !node.is_root()).then(|| node.parent())
        })
    }

    /// The path from the document's root, such as `spec.containers[0].image`.
    #[must_use]
    pub fn path_text(self) -> String {
        let mut steps = Vec::new();
        for node in self.ancestors() {
            if node.missing || node.is_root() {
                continue;
            }
            let parent = node.parent();
            if parent.is_list() {
                let index = parent.raw_items().iter().position(|&id| id == node.id);
                steps.push(format!("[{}]", index.unwrap_or_default()));
            } else {
                steps.push(format!(".{}", node.key()));
            }
        }
        let path: String = steps.into_iter().rev().collect();
        path.strip_prefix('.').map(str::to_owned).unwrap_or(path)
    }

    /// Where a text stands inside of a scalar as it is written, for values that hold many things
    /// (scripts, queries): the first place of `needle`, or else [`Node::place`].
    #[must_use]
    pub fn find(self, needle: &str) -> Span {
        let span = self.span();
        let block = self.file.slice(span);
        match block.find(needle) {
            Some(at) if self.exists() && !needle.is_empty() => {
                let start = span.start + at as u32;
                Span { start, end: start + needle.len() as u32 }
            }
            _ => self.place(),
        }
    }
}
