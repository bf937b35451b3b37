//! Events of the YAML reader become nodes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span as Mark, Tag};

use crate::parallel::map_runs;

use super::read_error::{ReadError, template_in};
use super::tree::{Content, File, Raw, RawEntry, Span, TextRef};
use super::{plain, scalar, split};

/// Collections in one another. The deepest manifests of the wild are 30 deep (schemas in CRDs).
const DEEPEST: usize = 128;

/// Nodes that a document may stand for once its aliases are followed. Rules walk trees, and an
/// alias is walked wherever it stands: a bomb of ten lines would cost hours.
const MOST_NODES: u64 = 2_000_000;

/// Above this many keys, equal ones are looked for with a hash table.
const FEW_KEYS: usize = 12;

/// Documents that one thread reads without help.
const FEW_DOCUMENTS: usize = 256;

/// Reads all documents of a file.
pub(super) fn read_into(file: &mut File, errors: &mut Vec<ReadError>) {
    let text = std::mem::take(&mut file.text);
    let skip = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let ranges = split::documents(text.get(skip..).unwrap_or_default());
    let parts = map_runs(&ranges, FEW_DOCUMENTS, |ranges| {
        let mut part = File::new(file.index, String::new(), String::new());
        let mut broken = Vec::new();
        let (first, last) = (ranges.first(), ranges.last());
        let bytes = first.zip(last).map_or(0, |(first, last)| last.end - first.start);
        // A node takes about 25 bytes of text (counted over the corpus): reserve once, not by doubling.
        part.nodes.reserve(bytes / 25);
        part.entries.reserve(bytes / 30);
        for range in ranges {
            let base = skip + range.start;
            let Some(document) = text.get(base..skip + range.end) else { continue };
            if document.trim_start_matches('-').trim().is_empty() {
                continue;
            }
            match read_document(&mut part, document, base, true) {
                Ok(problems) => broken.extend(problems),
                Err(problem) => broken.push(problem),
            }
        }
        (part, broken)
    });
    let mut broken = Vec::new();
    for (part, problems) in parts {
        file.append(part);
        broken.extend(problems);
    }
    file.text = text;
    errors.extend(broken.into_iter().map(|problem| problem.say(file)));
}

/// Reads one document; answers what is wrong with it though it can be used. Most are plain, and
/// the quick reader of such documents is tried first, unless a test wants to compare.
fn read_document(
    file: &mut File,
    document: &str,
    base: usize,
    is_quick_tried: bool,
) -> Result<Vec<Problem>, Problem> {
    if is_quick_tried {
        let mut builder = Builder::new(file, document, base);
        match plain::read(&mut builder) {
            Ok(()) => return Ok(builder.problems),
            Err(plain::NotPlain) => builder.discard(),
        }
    }
    let mut builder = Builder::new(file, document, base);
    let read = builder.read();
    if read.is_err() {
        builder.discard();
    }
    read
}

/// What went wrong, before lines are known.
#[derive(Debug)]
pub(super) enum Problem {
    Syntax { byte: u32, kind: granit_parser::ErrorKind, document: Span },
    Template { span: Span, document: Span },
    Key { span: Span },
    Twice { span: Span, key: String, first: Span },
    Expands { span: Span },
    Alias { span: Span },
    Depth { span: Span },
}

impl Problem {
    fn say(self, file: &File) -> ReadError {
        match self {
            Self::Syntax { byte, kind, document } => {
                ReadError::syntax(file, file.slice(document), byte, &kind)
            }
            Self::Template { span, document } => {
                let template = template_in(file.slice(document));
                ReadError::template(file, span, template.unwrap_or(super::read_error::Template::Go))
            }
            Self::Key { span } => ReadError::at(
                file,
                span,
                "a key must be a text".to_owned(),
                "write `name: value`; in a text, put `[` and `{` in quotes",
            ),
            Self::Twice { span, key, first } => {
                let line = file.place(first.start).line;
                let key: String = key.chars().take(60).collect();
                ReadError::at(
                    file,
                    span,
                    format!("the key `{key}` is there twice, first in line {line}"),
                    "remove one of the two: strict readers refuse the file, others drop one silently",
                )
            }
            Self::Expands { span } => ReadError::at(
                file,
                span,
                "aliases stand for more nodes than any manifest has".to_owned(),
                "write the values out",
            ),
            Self::Alias { span } => ReadError::at(
                file,
                span,
                "an alias inside of what it stands for".to_owned(),
                "write the value out",
            ),
            Self::Depth { span } => ReadError::at(
                file,
                span,
                format!("collections are more than {DEEPEST} deep"),
                "no manifest is that deep",
            ),
        }
    }
}

/// A node as its parent sees it.
#[derive(Clone, Copy)]
struct Done {
    id: u32,
    /// Nodes in it, aliases followed.
    size: u64,
    height: u16,
}

/// A collection that is not closed yet.
struct Frame {
    id: u32,
    anchor: usize,
    /// Where its children start in the builder's scratch space.
    children: usize,
    size: u64,
    height: u16,
    mapping: bool,
    /// The key whose value comes next.
    key: Option<(TextRef, Span)>,
}

pub(super) struct Builder<'f, 't> {
    file: &'f mut File,
    document: &'t str,
    base: usize,
    stack: Vec<Frame>,
    /// Children of open collections, innermost last.
    scratch: Vec<RawEntry>,
    anchors: HashMap<usize, Done>,
    problems: Vec<Problem>,
    /// Lengths of the file's arenas before this document.
    before: (usize, usize, usize, usize, usize),
}

impl<'f, 't> Builder<'f, 't> {
    fn new(file: &'f mut File, document: &'t str, base: usize) -> Self {
        let before = (
            file.roots.len(),
            file.nodes.len(),
            file.items.len(),
            file.entries.len(),
            file.side.len(),
        );
        Self {
            file,
            document,
            base,
            stack: Vec::new(),
            scratch: Vec::new(),
            anchors: HashMap::new(),
            problems: Vec::new(),
            before,
        }
    }

    /// Forgets what was read of a document that turned out to be broken.
    fn discard(self) {
        let (roots, nodes, items, entries, side) = self.before;
        self.file.roots.truncate(roots);
        self.file.nodes.truncate(nodes);
        self.file.items.truncate(items);
        self.file.entries.truncate(entries);
        self.file.side.truncate(side);
    }

    /// Reads the document; answers what is wrong with it though it can be used.
    fn read(&mut self) -> Result<Vec<Problem>, Problem> {
        let mut options = granit_parser::options! {
            flow_nesting_limit: DEEPEST,
            block_nesting_limit: DEEPEST,
        };
        options.set_emit_comments(false);
        for event in Parser::new_from_str_with_options(self.document, options) {
            match event {
                Ok((event, mark)) => self.take(event, mark)?,
                Err(error) => {
                    let byte = self.byte_of(error.marker());
                    let document = self.whole();
                    return Err(Problem::Syntax { byte, kind: error.kind().clone(), document });
                }
            }
        }
        Ok(std::mem::take(&mut self.problems))
    }

    pub(super) fn document(&self) -> &'t str {
        self.document
    }

    /// The place in the file of a range of the document.
    pub(super) fn span_in_document(&self, start: usize, end: usize) -> Span {
        Span { start: (self.base + start) as u32, end: (self.base + end) as u32 }
    }

    fn whole(&self) -> Span {
        Span { start: self.base as u32, end: (self.base + self.document.len()) as u32 }
    }

    /// The byte that a marker points to; markers of some errors know characters only.
    fn byte_of(&self, marker: &Marker) -> u32 {
        let byte = marker
            .byte_offset()
            .or_else(|| self.document.char_indices().nth(marker.index()).map(|(byte, _)| byte));
        (self.base + byte.unwrap_or(self.document.len()).min(self.document.len())) as u32
    }

    fn span_of(&self, mark: &Mark) -> Span {
        let start = self.byte_of(&mark.start);
        Span { start, end: self.byte_of(&mark.end).max(start) }
    }

    fn take(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.span_of(&mark);
                let plain = style == ScalarStyle::Plain && !is_tagged_text(tag.as_deref());
                self.scalar(text, span, style, plain, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) => {
                let span = self.span_of(&mark);
                self.open(matches!(event, Event::MappingStart(..)), span, anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let end = self.span_of(&mark).end;
                self.end(end)?;
            }
            Event::Alias(anchor) => {
                let span = self.span_of(&mark);
                let Some(&done) = self.anchors.get(&anchor) else {
                    return Err(Problem::Alias { span });
                };
                if let Some(frame) = self.stack.last_mut()
                    && frame.mapping
                    && frame.key.is_none()
                {
                    let raw = self.file.nodes.get(done.id as usize);
                    let Some(Raw { content: Content::Scalar { text, .. }, .. }) = raw else {
                        return Err(self.odd_key(span));
                    };
                    frame.key = Some((*text, span));
                    return Ok(());
                }
                self.place(done, span)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes a scalar: a key where one is due, else a value.
    pub(super) fn scalar(
        &mut self,
        text: Cow<'_, str>,
        span: Span,
        style: ScalarStyle,
        plain: bool,
        anchor: usize,
    ) -> Result<(), Problem> {
        let text = self.keep(text, span, style);
        self.take_scalar(text, span, plain, anchor)
    }

    /// The same of a text that is known to stand in the file, at a place inside of the scalar's.
    pub(super) fn scalar_of_document(
        &mut self,
        text: Span,
        span: Span,
        plain: bool,
    ) -> Result<(), Problem> {
        self.take_scalar(TextRef::File(text), span, plain, 0)
    }

    fn take_scalar(
        &mut self,
        text: TextRef,
        span: Span,
        plain: bool,
        anchor: usize,
    ) -> Result<(), Problem> {
        if let Some(frame) = self.stack.last_mut()
            && frame.mapping
            && frame.key.is_none()
        {
            frame.key = Some((text, span));
            if anchor != 0 {
                let id = self.push(Content::Scalar { text, plain }, span);
                self.anchors.insert(anchor, Done { id, size: 1, height: 1 });
            }
            return Ok(());
        }
        let id = self.push(Content::Scalar { text, plain }, span);
        self.done(Done { id, size: 1, height: 1 }, anchor)
    }

    /// Starts a collection.
    pub(super) fn open(&mut self, mapping: bool, span: Span, anchor: usize) -> Result<(), Problem> {
        if let Some(parent) = self.stack.last()
            && parent.mapping
            && parent.key.is_none()
        {
            return Err(self.odd_key(span));
        }
        let content = if mapping {
            Content::Mapping { first: 0, end: 0 }
        } else {
            Content::List { first: 0, end: 0 }
        };
        let id = self.push(content, span);
        let children = self.scratch.len();
        self.stack.push(Frame { id, anchor, children, size: 1, height: 1, mapping, key: None });
        Ok(())
    }

    /// Ends the innermost collection.
    pub(super) fn end(&mut self, end: u32) -> Result<(), Problem> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let done = self.close(&frame, end)?;
        self.done(done, frame.anchor)
    }

    /// A key that is no text: mostly a template's `{{ … }}`, which reads as a mapping.
    fn odd_key(&self, span: Span) -> Problem {
        let at = (span.start as usize).saturating_sub(self.base);
        let from = at.saturating_sub(1);
        if self.document.get(from..).is_some_and(|rest| rest.starts_with("{{")) {
            let start = (self.base + from) as u32;
            let span = Span { start, end: start + 2 };
            return Problem::Template { span, document: self.whole() };
        }
        Problem::Key { span }
    }

    /// Keeps a scalar's text: where it stands in the file, or beside it.
    fn keep(&mut self, text: Cow<'_, str>, span: Span, style: ScalarStyle) -> TextRef {
        let quote =
            u32::from(matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted));
        let start = span.start + quote;
        let from = start as usize - self.base;
        if self.document.get(from..from + text.len()) == Some(&*text) {
            return TextRef::File(Span { start, end: start + text.len() as u32 });
        }
        let start = self.file.side.len() as u32;
        self.file.side.push_str(&text);
        TextRef::Side(Span { start, end: self.file.side.len() as u32 })
    }

    fn push(&mut self, content: Content, span: Span) -> u32 {
        let id = self.file.nodes.len() as u32;
        self.file.nodes.push(Raw { content, span, key: Span::default(), parent: id });
        id
    }

    /// Moves a collection's children from the scratch space to where they stay.
    fn close(&mut self, frame: &Frame, end: u32) -> Result<Done, Problem> {
        let span = self.file.nodes.get(frame.id as usize).map_or(Span::default(), |raw| raw.span);
        if frame.height as usize > 2 * DEEPEST {
            return Err(Problem::Depth { span });
        }
        for child in self.scratch.get(frame.children..).unwrap_or_default() {
            if let Some(raw) = self.file.nodes.get_mut(child.value as usize)
                && raw.parent == child.value
            {
                raw.parent = frame.id;
                raw.key = child.key_span;
            }
        }
        let content = if frame.mapping {
            let first = self.file.entries.len() as u32;
            self.file.entries.extend(self.scratch.drain(frame.children..));
            self.merge(first as usize);
            self.tell_twice(first as usize);
            Content::Mapping { first, end: self.file.entries.len() as u32 }
        } else {
            let first = self.file.items.len() as u32;
            self.file.items.extend(self.scratch.drain(frame.children..).map(|child| child.value));
            Content::List { first, end: self.file.items.len() as u32 }
        };
        if let Some(raw) = self.file.nodes.get_mut(frame.id as usize) {
            raw.content = content;
            // A block collection ends where its last child does, not at the next token.
            raw.span.end = end.max(raw.span.start);
        }
        Ok(Done { id: frame.id, size: frame.size, height: frame.height })
    }

    /// Follows a merge key (`<<: *defaults`): the mapping's own keys win, then earlier mappings.
    fn merge(&mut self, first: usize) {
        let own = self.file.entries.get(first..).unwrap_or_default();
        let Some(at) = own
            .iter()
            .position(|entry| self.file.text_or(entry.key, self.document, self.base) == "<<")
        else {
            return;
        };
        let value = self.file.entries.remove(first + at).value;
        let Some(raw) = self.file.nodes.get(value as usize) else { return };
        let sources: Vec<u32> = match raw.content {
            Content::List { first, end } => {
                self.file.items.get(first as usize..end as usize).unwrap_or_default().to_vec()
            }
            Content::Scalar { .. } | Content::Mapping { .. } => vec![value],
        };
        let mut present: HashSet<String> = self
            .file
            .entries
            .get(first..)
            .unwrap_or_default()
            .iter()
            .map(|entry| self.file.text_or(entry.key, self.document, self.base).to_owned())
            .collect();
        for source in sources {
            let Some(Raw { content: Content::Mapping { first, end }, .. }) =
                self.file.nodes.get(source as usize)
            else {
                continue;
            };
            for index in *first..*end {
                let Some(&entry) = self.file.entries.get(index as usize) else { continue };
                let key = self.file.text_or(entry.key, self.document, self.base).to_owned();
                if present.insert(key) {
                    self.file.entries.push(entry);
                }
            }
        }
    }

    /// Reports keys that a mapping has twice, and keeps the last of them, as lenient readers do.
    fn tell_twice(&mut self, first: usize) {
        let entries = self.file.entries.get(first..).unwrap_or_default();
        let key = |entry: &RawEntry| self.file.text_or(entry.key, self.document, self.base);
        let mut doubles = Vec::new();
        if entries.len() <= FEW_KEYS {
            for (later, entry) in entries.iter().enumerate() {
                let text = key(entry);
                if let Some(earlier) =
                    entries.iter().take(later).position(|other| key(other) == text)
                {
                    doubles.push((earlier, later));
                }
            }
        } else {
            let mut seen = HashMap::with_capacity(entries.len());
            for (later, entry) in entries.iter().enumerate() {
                if let Some(earlier) = seen.insert(key(entry), later) {
                    doubles.push((earlier, later));
                }
            }
        }
        let mut dropped = Vec::new();
        for (earlier, later) in doubles {
            let (Some(old), Some(new)) = (entries.get(earlier), entries.get(later)) else {
                continue;
            };
            self.problems.push(Problem::Twice {
                span: new.key_span,
                key: key(new).to_owned(),
                first: old.key_span,
            });
            dropped.push(earlier);
        }
        if dropped.is_empty() {
            return;
        }
        let dropped: HashSet<usize> = dropped.into_iter().collect();
        let kept: Vec<RawEntry> = entries
            .iter()
            .enumerate()
            .filter(|(index, _)| !dropped.contains(index))
            .map(|(_, entry)| *entry)
            .collect();
        self.file.entries.truncate(first);
        self.file.entries.extend(kept);
    }

    fn done(&mut self, done: Done, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            self.anchors.insert(anchor, done);
        }
        let span = self.file.nodes.get(done.id as usize).map_or(Span::default(), |raw| raw.span);
        self.place(done, span)
    }

    /// Puts a node where it belongs: into the innermost collection, or among the roots. The span is
    /// the node's own, or that of the alias that stands for it.
    fn place(&mut self, done: Done, span: Span) -> Result<(), Problem> {
        let Some(frame) = self.stack.last_mut() else {
            // A document of comments only reads as null.
            let root = self.file.nodes.get(done.id as usize).map(|raw| raw.content);
            let is_empty = matches!(root, Some(Content::Scalar { text, plain: true })
                if scalar::is_null(self.file.text_or(text, self.document, self.base)));
            if !is_empty {
                self.file.roots.push(done.id);
            }
            return Ok(());
        };
        frame.size += done.size;
        frame.height = frame.height.max(done.height.saturating_add(1));
        if frame.size > MOST_NODES {
            return Err(Problem::Expands { span });
        }
        let (key, key_span) = match frame.key.take() {
            Some(key) => key,
            None => (TextRef::Side(Span::default()), Span::default()),
        };
        self.scratch.push(RawEntry { key, key_span, value: done.id });
        Ok(())
    }
}

impl File {
    /// A scalar's text while the file's own text is lent to the reader.
    fn text_or<'a>(&'a self, text: TextRef, document: &'a str, base: usize) -> &'a str {
        match text {
            TextRef::File(span) => {
                let (start, end) = (span.start as usize, span.end as usize);
                document.get(start - base..end - base).unwrap_or_default()
            }
            TextRef::Side(_) => self.text_of(text),
        }
    }
}

/// Whether a tag says that a scalar is text.
fn is_tagged_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| {
        tag.core_suffix() == Some("str") || tag.suffix() == "!" || tag.original() == "!"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that is known of a document, by either reader, and what is wrong with it.
    fn told(text: &str, is_quick_tried: bool) -> String {
        let mut file = File::new(0, String::new(), String::new());
        let problems = read_document(&mut file, text, 0, is_quick_tried);
        format!(
            "{problems:?} {:?} {:?} {:?} {:?} {:?}",
            file.roots, file.nodes, file.items, file.entries, file.side
        )
    }

    fn is_plain(text: &str) -> bool {
        let mut file = File::new(0, String::new(), String::new());
        plain::read(&mut Builder::new(&mut file, text, 0)).is_ok()
    }

    #[track_caller]
    fn both_agree(text: &str) {
        assert_eq!(told(text, true), told(text, false), "{text}");
    }

    const PLAIN: &str = "\
# A server.
apiVersion: apps/v1   # of which
kind: Deployment
metadata:
  name: \"a b\"
  labels: {app: 'it', tier: [1, two, -3 ], \"k\": {}, last: []}
  annotations:
    nothing:
    url: http://a:80/b#c
spec:
  args:
  - --model=a
  -  x: 1
     y:
       - deep
       # in between
       - z
  - \"q\"
  -
  script: |
    set -e
      deep

    # no comment
    exit 0

  other: |-
    one

last: -1
";

    #[test]
    fn plain_documents_are_read_quickly_and_the_same() {
        for text in [
            PLAIN,
            "---\na: 1\n",
            "--- # c\n- a\n- b: c\n",
            "a:\n- b",
            "a: |\n  x\n",
            "a: {b: c}  # d",
            "a:\nb: ~\n# end\n",
        ] {
            assert!(is_plain(text), "{text}");
            both_agree(text);
        }
    }

    #[test]
    fn all_else_is_left_to_the_other_reader() {
        for text in [
            "",
            "a",
            "a: b: c\n",
            "a: b\n  c\n",
            "a: \"b\n  c\"\n",
            "a: 'it''s'\n",
            "a: \"\\n\"\n",
            "a: &x b\nc: *x\n",
            "a: !!str 1\n",
            "a: >\n  x\n",
            "a: |+\n  x\n\n",
            "a: |2\n   x\n",
            "a: |\n\n  x\n",
            "a: |\n  x",
            "a: {b: c,\n  d: e}\n",
            "a: {{ .Values.x }}\n",
            "a: [b: c]\n",
            "a: {b:c}\n",
            "a:\tb\n",
            "a: b\r\n",
            "a: \u{e9}\n",
            "- - a\n",
            "-  \n- # c\n- a\n",
            "? a\n: b\n",
            "<<: {a: b}\n",
            "a: b\n c: d\n",
            "a:\n  b: c\n d: e\n",
            "a: b\n- c\n",
            "- a\nb: c\n",
            "%YAML 1.2\n---\na: b\n",
            "a: b\n...\nc: d\n",
        ] {
            assert!(!is_plain(text), "{text}");
            both_agree(text);
        }
        both_agree("a: 1\na: 2\n");
        both_agree(&format!("a: {}{}\n", "[".repeat(70), "]".repeat(70)));
    }

    #[test]
    fn both_readers_agree_on_the_examples_of_all_rules() {
        let mut plain = 0;
        let examples: Vec<_> =
            crate::registry::all().iter().flat_map(|rule| rule.examples).collect();
        for example in &examples {
            for range in split::documents(example.manifest) {
                let document = &example.manifest[range];
                both_agree(document);
                plain += usize::from(is_plain(document));
            }
        }
        assert!(plain * 10 > examples.len() * 9, "only {plain} documents are plain");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn both_readers_agree_on_changed_documents(
            changes in prop::collection::vec((0..PLAIN.len(), 0..3_u8, r#"[ -~\n\t]|  |: | #|- |\n  |\n---|é"#), 1..4),
        ) {
            let mut text = PLAIN.to_owned();
            for (at, what, with) in changes {
                let at = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap();
                let end = (at + usize::from(what)).min(text.len());
                let end = (end..=text.len()).find(|&end| text.is_char_boundary(end)).unwrap();
                text.replace_range(at..end, &with);
            }
            prop_assert_eq!(told(&text, true), told(&text, false), "{}", text);
        }
    }
}
