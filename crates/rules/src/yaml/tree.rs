//! A file and the trees of its documents, in one arena.

use std::sync::OnceLock;

/// Bytes of a file's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// A place as people count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// A text and what was read from it.
#[derive(Debug)]
pub struct File {
    /// Its position among the sources.
    pub index: usize,
    pub name: String,
    pub text: String,
    /// Where documents start in `nodes`.
    pub(super) roots: Vec<u32>,
    /// In the order of the text: a collection, then its children.
    pub(super) nodes: Vec<Raw>,
    /// Children of lists.
    pub(super) items: Vec<u32>,
    /// Children of mappings.
    pub(super) entries: Vec<RawEntry>,
    /// Texts of scalars that do not stand in the file as they are (escapes, folded lines).
    pub(super) side: String,
    /// Starts of lines; found when the first place is asked for.
    lines: OnceLock<Vec<u32>>,
    /// Characters before each block of a long line; counted when a column far in is asked for.
    blocks: OnceLock<Vec<u32>>,
}

/// A node: 40 bytes, no pointers, so that a bundle of 100,000 documents stays small.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    pub(super) content: Content,
    pub(super) span: Span,
    /// The key before it; empty at 0 if it has none.
    pub(super) key: Span,
    /// The collection that it was written in, or itself.
    pub(super) parent: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    Scalar {
        text: TextRef,
        plain: bool,
    },
    /// A range of `File::items`.
    List {
        first: u32,
        end: u32,
    },
    /// A range of `File::entries`.
    Mapping {
        first: u32,
        end: u32,
    },
}

/// Where a scalar's text stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum TextRef {
    File(Span),
    Side(Span),
}

impl TextRef {
    /// The same text once `length` bytes are before the side text.
    fn after(self, length: u32) -> Self {
        match self {
            Self::File(_) => self,
            Self::Side(Span { start, end }) => {
                Self::Side(Span { start: start + length, end: end + length })
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RawEntry {
    pub(super) key: TextRef,
    pub(super) key_span: Span,
    pub(super) value: u32,
}

impl File {
    pub(super) fn new(index: usize, name: String, text: String) -> Self {
        Self {
            index,
            name,
            text,
            roots: Vec::new(),
            nodes: Vec::new(),
            items: Vec::new(),
            entries: Vec::new(),
            side: String::new(),
            lines: OnceLock::new(),
            blocks: OnceLock::new(),
        }
    }

    /// Adds what was read of later documents of the same text.
    pub(super) fn append(&mut self, part: Self) {
        if self.nodes.is_empty() {
            // Nothing to renumber.
            (self.roots, self.nodes) = (part.roots, part.nodes);
            (self.items, self.entries, self.side) = (part.items, part.entries, part.side);
            return;
        }
        let nodes = self.nodes.len() as u32;
        let items = self.items.len() as u32;
        let entries = self.entries.len() as u32;
        let side = self.side.len() as u32;
        self.roots.extend(part.roots.into_iter().map(|root| root + nodes));
        self.nodes.extend(part.nodes.into_iter().map(|raw| Raw {
            content: match raw.content {
                Content::Scalar { text, plain } => {
                    Content::Scalar { text: text.after(side), plain }
                }
                Content::List { first, end } => {
                    Content::List { first: first + items, end: end + items }
                }
                Content::Mapping { first, end } => {
                    Content::Mapping { first: first + entries, end: end + entries }
                }
            },
            parent: raw.parent + nodes,
            ..raw
        }));
        self.items.extend(part.items.into_iter().map(|item| item + nodes));
        self.entries.extend(part.entries.into_iter().map(|entry| RawEntry {
            key: entry.key.after(side),
            value: entry.value + nodes,
            ..entry
        }));
        self.side.push_str(&part.side);
    }

    pub(super) fn text_of(&self, text: TextRef) -> &str {
        match text {
            TextRef::File(span) => self.slice(span),
            TextRef::Side(span) => {
                self.side.get(span.start as usize..span.end as usize).unwrap_or_default()
            }
        }
    }

    /// Whether a text is this one. Most are not, and their length tells it.
    pub(super) fn is_text(&self, text: TextRef, wanted: &str) -> bool {
        let (of, span) = match text {
            TextRef::File(span) => (&self.text, span),
            TextRef::Side(span) => (&self.side, span),
        };
        let range = span.start as usize..span.end as usize;
        range.len() == wanted.len() && of.as_bytes().get(range) == Some(wanted.as_bytes())
    }

    /// The text of a span.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    fn lines(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            // A file is at most 1 GiB: its offsets fit.
            let breaks = memchr::memchr_iter(b'\n', self.text.as_bytes());
            std::iter::once(0).chain(breaks.map(|at| at as u32 + 1)).collect()
        })
    }

    /// Whether lines end as on Windows, by the first of them.
    pub(crate) fn has_crlf(&self) -> bool {
        let end = memchr::memchr(b'\n', self.text.as_bytes());
        end.is_some_and(|end| self.text.as_bytes().get(end.wrapping_sub(1)) == Some(&b'\r'))
    }

    /// Line and column of a byte. A place inside of a character is that character's.
    #[must_use]
    pub fn place(&self, byte: u32) -> Place {
        let lines = self.lines();
        let line = lines.partition_point(|&start| start <= byte).max(1);
        let start = lines.get(line - 1).copied().unwrap_or_default() as usize;
        Place { line, column: self.characters(start, byte as usize) + 1 }
    }

    /// Characters between two bytes. JSON often has a single line, and each finding asks for its
    /// column there: those of far are counted from the nearest block on.
    fn characters(&self, from: usize, to: usize) -> usize {
        const BLOCK: usize = 4096;
        let starts = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        let text = self.text.as_bytes();
        let between = |from: usize, to: usize| starts(text.get(from..to).unwrap_or_default());
        let (from, to) = (from.min(text.len()), to.min(text.len()));
        if to.saturating_sub(from) <= BLOCK {
            return between(from, to);
        }
        let blocks = self.blocks.get_or_init(|| {
            let counts = text.chunks(BLOCK).map(starts);
            counts.scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count as u32))).collect()
        });
        let before = |at: usize| {
            // The end of the text may be the end of its last block.
            let block = (at / BLOCK).min(blocks.len().saturating_sub(1));
            let counted = blocks.get(block).copied().unwrap_or_default();
            counted as usize + between(block * BLOCK, at)
        };
        before(to) - before(from)
    }

    /// A line's bytes without its end, numbered from 1; empty beyond the last.
    #[must_use]
    pub fn line_span(&self, line: usize) -> Span {
        let lines = self.lines();
        let length = self.text.len() as u32;
        let Some(&start) = line.checked_sub(1).and_then(|at| lines.get(at)) else {
            return Span { start: length, end: length };
        };
        let end = lines.get(line).map_or(length, |next| next - 1);
        let text = self.slice(Span { start, end });
        Span { start, end: start + text.trim_end_matches('\r').len() as u32 }
    }

    /// A line's text without its end, numbered from 1.
    #[must_use]
    pub fn line(&self, line: usize) -> &str {
        self.slice(self.line_span(line))
    }
}
