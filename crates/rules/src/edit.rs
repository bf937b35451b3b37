//! Changes of a text that keep its comments and layout.

use std::collections::BTreeMap;

use crate::yaml::{Documents, Node, Source, Span};

/// Replaces a span of a file by a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub file: usize,
    pub span: Span,
    pub text: String,
}

impl Edit {
    /// Writes another value in place of a scalar. `text` is YAML: quote it where it needs quotes.
    #[must_use]
    pub fn replace(node: Node<'_>, text: &str) -> Option<Self> {
        let inline = node.is_scalar() && !is_block_scalar(node);
        inline.then(|| Self::new(node, node.span(), text.to_owned()))
    }

    /// Writes another key before a value.
    #[must_use]
    pub fn rename(node: Node<'_>, key: &str) -> Option<Self> {
        if !node.exists() {
            return None;
        }
        Some(Self::new(node, node.key_span()?, key.to_owned()))
    }

    /// Adds an entry to a mapping. `value` is YAML: one line, or lines that stand below the key
    /// (indented from 0). `None` if the layout does not allow it without a rewrite.
    #[must_use]
    pub fn insert(mapping: Node<'_>, key: &str, value: &str) -> Option<Self> {
        if !mapping.is_map() || mapping.get(key).exists() {
            return None;
        }
        let first = mapping.entries().next();
        if is_flow(mapping) {
            if value.contains('\n') {
                return None;
            }
            let inside = mapping.span().start + 1;
            let comma = if first.is_some() { ", " } else { "" };
            let text = format!("{key}: {value}{comma}");
            return Some(Self::new(mapping, Span { start: inside, end: inside }, text));
        }
        let first = first?;
        // A mapping that a merge key or an alias brought here is written elsewhere.
        let indent = column(mapping, first.key_span.start);
        let entry = |indent: usize| {
            let lines: Vec<&str> = value.lines().collect();
            match lines.as_slice() {
                [one] => format!("{key}: {one}"),
                lines => {
                    let pad = " ".repeat(indent + 2);
                    let body: Vec<String> =
                        lines.iter().map(|line| format!("{pad}{line}")).collect();
                    format!("{key}:\n{}", body.join("\n"))
                }
            }
        };
        let pad = " ".repeat(indent);
        // Behind the last value that ends in the line of its key, where no comment is torn apart.
        let behind = mapping
            .entries()
            .filter(|entry| entry.value.is_scalar() && !is_block_scalar(entry.value))
            .filter(|entry| column(mapping, entry.key_span.start) == indent)
            .rfind(|entry| {
                let file = mapping.file();
                let lines = (entry.key_span.start, entry.value.span().end);
                file.place(lines.0).line == file.place(lines.1).line
            });
        Some(match behind {
            Some(sibling) => {
                let file = mapping.file();
                let at = file.line_span(file.place(sibling.key_span.start).line).end;
                Self::new(mapping, Span { start: at, end: at }, format!("\n{pad}{}", entry(indent)))
            }
            None => {
                let at = first.key_span.start;
                Self::new(mapping, Span { start: at, end: at }, format!("{}\n{pad}", entry(indent)))
            }
        })
    }

    /// Adds an item to a list, in front of the others. `item` is YAML, lines indented from 0.
    #[must_use]
    pub fn prepend(list: Node<'_>, item: &str) -> Option<Self> {
        if !list.is_list() {
            return None;
        }
        let first = list.items().next();
        if is_flow(list) {
            if item.contains('\n') {
                return None;
            }
            let inside = list.span().start + 1;
            let comma = if first.is_some() { ", " } else { "" };
            return Some(Self::new(
                list,
                Span { start: inside, end: inside },
                format!("{item}{comma}"),
            ));
        }
        let file = list.file();
        let start = first?.span().start;
        let line = file.line_span(file.place(start).line);
        let before = file.slice(Span { start: line.start, end: start });
        let dash = before.rfind('-')?;
        // `- - x`, or a list that starts in the line of a key: too odd to edit.
        if !before.get(..dash)?.trim().is_empty() {
            return None;
        }
        let pad = " ".repeat(dash);
        let item = item.lines().collect::<Vec<_>>().join(&format!("\n{pad}  "));
        let at = line.start + dash as u32;
        Some(Self::new(list, Span { start: at, end: at }, format!("- {item}\n{pad}")))
    }

    /// Removes an entry of a block mapping whose value ends in the line of its key, the whole
    /// line. `None` for others, and if it is the only entry.
    #[must_use]
    pub fn remove(node: Node<'_>) -> Option<Self> {
        let mapping = node.parent();
        if !node.exists() || !mapping.is_map() || is_flow(mapping) || mapping.len() < 2 {
            return None;
        }
        let file = node.file();
        let key = node.key_span()?;
        let (from, to) = (file.place(key.start).line, file.place(last_byte(node)).line);
        let (first, last) = (file.line_span(from), file.line_span(to));
        if !file.slice(Span { start: first.start, end: key.start }).trim().is_empty() {
            return None;
        }
        let end = (last.end as usize..file.text.len())
            .find(|&at| file.text.as_bytes().get(at) == Some(&b'\n'))
            .map_or(last.end, |at| at as u32 + 1);
        Some(Self::new(node, Span { start: first.start, end }, String::new()))
    }

    fn new(node: Node<'_>, span: Span, text: String) -> Self {
        let file = node.file();
        let text = if file.has_crlf() { text.replace('\n', "\r\n") } else { text };
        Self { file: file.index, span, text }
    }
}

fn is_flow(node: Node<'_>) -> bool {
    let span = node.span();
    node.file().slice(span).starts_with(['{', '['])
}

fn is_block_scalar(node: Node<'_>) -> bool {
    let span = node.span();
    let text = node.file().slice(span);
    text.contains('\n') || (node.is_quoted() && !text.starts_with(['"', '\'']))
}

/// Columns from 0; edits count in characters, since indentation is blanks.
fn column(node: Node<'_>, byte: u32) -> usize {
    node.file().place(byte).column - 1
}

/// The last byte of a value: of a block collection, of its last child.
fn last_byte(node: Node<'_>) -> u32 {
    let end = if node.is_empty() || is_flow(node) {
        node.span().end
    } else if node.is_list() {
        node.items().last().map_or(0, last_byte_or_more)
    } else {
        node.entries().last().map_or(0, |entry| last_byte_or_more(entry.value))
    };
    end.saturating_sub(1).max(node.span().start)
}

fn last_byte_or_more(node: Node<'_>) -> u32 {
    last_byte(node) + 1
}

/// The text after edits that do not overlap, earlier ones first; of two that do, the first wins.
/// Groups are all or nothing. Answers `None` if nothing was changed, or if the result can no longer
/// be read, in which case the text stays as it is.
#[must_use]
pub fn apply(source: &Source, groups: &[&[Edit]]) -> Option<String> {
    let mut taken = Taken::default();
    for group in groups {
        if group.iter().all(|edit| taken.takes(edit)) {
            group.iter().for_each(|edit| taken.add(edit));
        }
    }
    if taken.by_span.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(source.text.len() + 256);
    let mut at = 0;
    for edit in taken.by_span.into_values().flatten() {
        text.push_str(source.text.get(at..edit.span.start as usize)?);
        text.push_str(&edit.text);
        at = edit.span.end as usize;
    }
    text.push_str(source.text.get(at..)?);
    let count = |text: &str| {
        let read = Documents::read(vec![Source { name: String::new(), text: text.to_owned() }]);
        (read.errors.len(), read.roots().count())
    };
    (count(&text) == count(&source.text)).then_some(text)
}

/// Edits that were taken, by start and end. Those of one group may share a place; those of several
/// do not overlap.
#[derive(Default)]
struct Taken<'e> {
    by_span: BTreeMap<(u32, u32), Vec<&'e Edit>>,
}

impl<'e> Taken<'e> {
    /// Whether an edit is among them, or changes what none of them does. Two insertions at one place
    /// overlap too: their order would be chance.
    fn takes(&self, edit: &Edit) -> bool {
        let Span { start, end } = edit.span;
        if let Some(same) = self.by_span.get(&(start, end)) {
            return same.iter().all(|other| *other == edit);
        }
        // Of spans that do not overlap, one that starts earlier does not end later.
        let before = self.by_span.range(..(end, 0)).next_back();
        before.is_none_or(|((_, end_before), _)| *end_before <= start)
    }

    fn add(&mut self, edit: &'e Edit) {
        let same = self.by_span.entry((edit.span.start, edit.span.end)).or_default();
        if !same.contains(&edit) {
            same.push(edit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        text: &str,
        path: &str,
        edit: impl Fn(Node<'_>) -> Option<Edit>,
        expected: Option<&str>,
    ) {
        let source = Source { name: "a".into(), text: text.into() };
        let documents = Documents::read(vec![source.clone()]);
        let root = documents.roots().next().unwrap();
        let node = if path.is_empty() { root } else { root.path(path) };
        let edited = edit(node).and_then(|edit| apply(&source, &[&[edit]]));
        assert_eq!(edited.as_deref(), expected);
    }

    #[test]
    fn replace_keeps_what_is_around() {
        check("a: 1 # why\nb: 2\n", "a", |n| Edit::replace(n, "3"), Some("a: 3 # why\nb: 2\n"));
        check("a: '1'\n", "a", |n| Edit::replace(n, "2"), Some("a: 2\n"));
        check("a: |\n  x\n", "a", |n| Edit::replace(n, "2"), None);
        check("{a: 1}", "a", |n| Edit::replace(n, "2"), Some("{a: 2}"));
        check("a: {b: 1}\n", "a", |n| Edit::replace(n, "2"), None);
    }

    #[test]
    fn insert_finds_the_indentation() {
        let add = |n: Node<'_>| Edit::insert(n, "k", "v");
        check(
            "a:\n  b: 1 # c\n  d:\n  - 1\n",
            "a",
            add,
            Some("a:\n  b: 1 # c\n  k: v\n  d:\n  - 1\n"),
        );
        check("a:\n  d:\n  - 1\n", "a", add, Some("a:\n  k: v\n  d:\n  - 1\n"));
        check("a: {b: 1}\n", "a", add, Some("a: {k: v, b: 1}\n"));
        check("a: {}\n", "a", add, Some("a: {k: v}\n"));
        check("a: {k: 1}\n", "a", add, None);
        let deep = |n: Node<'_>| Edit::insert(n, "k", "x: 1\ny: 2");
        check("a:\n    b: 1\n", "a", deep, Some("a:\n    b: 1\n    k:\n      x: 1\n      y: 2\n"));
        check("a: {b: 1}\n", "a", deep, None);
        let item = |n: Node<'_>| Edit::insert(n.item(0), "k", "v");
        check("a:\n- b: 1\n  c: [1]\n", "a", item, Some("a:\n- b: 1\n  k: v\n  c: [1]\n"));
        check("a:\n- c: [1]\n", "a", item, Some("a:\n- k: v\n  c: [1]\n"));
    }

    #[test]
    fn prepend_keeps_the_dash_in_its_column() {
        let add = |n: Node<'_>| Edit::prepend(n, "x: 1\ny: 2");
        check("a:\n- b: 1\n", "a", add, Some("a:\n- x: 1\n  y: 2\n- b: 1\n"));
        check("a:\n  # c\n  - b\n", "a", add, Some("a:\n  # c\n  - x: 1\n    y: 2\n  - b\n"));
        check("a: [1]\n", "a", |n| Edit::prepend(n, "2"), Some("a: [2, 1]\n"));
        check("- - b\n", "", |n| Edit::prepend(n.item(0), "c"), None);
    }

    #[test]
    fn remove_takes_whole_lines() {
        check("a: 1\nb: 2 # c\nc: 3\n", "b", Edit::remove, Some("a: 1\nc: 3\n"));
        check(
            "a: 1\nb:\n  x: 1\n  y: [2,\n    3]\nc: 3\n",
            "b",
            Edit::remove,
            Some("a: 1\nc: 3\n"),
        );
        check("a: 1\n", "a", Edit::remove, None);
        check("a: {b: 1, c: 2}\n", "a.b", Edit::remove, None);
    }

    #[test]
    fn lines_end_as_the_others_of_the_file() {
        let deep = |n: Node<'_>| Edit::insert(n, "k", "x: 1\ny: 2");
        check(
            "a:\r\n  b: 1\r\n",
            "a",
            deep,
            Some("a:\r\n  b: 1\r\n  k:\r\n    x: 1\r\n    y: 2\r\n"),
        );
        let item = |n: Node<'_>| Edit::prepend(n, "x: 1\ny: 2");
        check("a:\r\n- b\r\n", "a", item, Some("a:\r\n- x: 1\r\n  y: 2\r\n- b\r\n"));
        check("a: 1\r\nb: 2\r\n", "b", Edit::remove, Some("a: 1\r\n"));
        // One stray return does not make the file another's.
        check("a:\n  b: 1\r\n", "a", |n| Edit::insert(n, "k", "v"), Some("a:\n  b: 1\n  k: v\r\n"));
    }

    #[test]
    fn of_edits_that_overlap_the_first_wins() {
        let source = Source { name: "a".into(), text: "abc: 1\n".into() };
        let edit =
            |start, end, text: &str| Edit { file: 0, span: Span { start, end }, text: text.into() };
        let (first, second) = ([edit(5, 6, "2")], [edit(5, 6, "3"), edit(0, 1, "x")]);
        assert_eq!(apply(&source, &[&first, &second]).as_deref(), Some("abc: 2\n"));
        // Side by side, and an insertion where something else begins or ends.
        let others = [[edit(0, 1, "x")], [edit(3, 3, "y")], [edit(3, 4, ":")], [edit(5, 5, "4")]];
        let groups: Vec<&[Edit]> = others.iter().rev().map(|it| &it[..]).collect();
        assert_eq!(apply(&source, &groups).as_deref(), Some("xbcy: 41\n"));
        // Into what is replaced nothing is inserted, nor the other way round.
        let (whole, inner) = ([edit(0, 3, "k")], [edit(1, 1, "z")]);
        assert_eq!(apply(&source, &[&whole, &inner]).as_deref(), Some("k: 1\n"));
        assert_eq!(apply(&source, &[&inner, &whole]).as_deref(), Some("azbc: 1\n"));
        // What no longer reads is not written.
        assert_eq!(apply(&source, &[&[edit(5, 6, "[")]]), None);
    }
}
