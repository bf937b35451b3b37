//! Text becomes trees: one [`Node`] for each document.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::errors::ProblemKind;
use super::node::{Content, Entry, Node, short};
use super::report::Report;

/// Collections in one another. Our deepest field is six deep; what is read is walked recursively.
const DEEPEST: usize = 64;

/// Reads all documents of a text, and reports what is wrong with it as YAML.
///
/// A text that is no YAML ends at its first error, and the documents before it are kept.
pub(super) fn parse(text: &str, report: &mut Report) -> Vec<Rc<Node>> {
    let mut options = granit_parser::options! {
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    options.set_emit_comments(false);
    let mut builder =
        Builder { text, report, stack: Vec::new(), anchors: HashMap::new(), documents: Vec::new() };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let start = byte_of(text, error.marker());
                let message = format!("this is not YAML: {}", error.kind());
                builder
                    .report
                    .problem(ProblemKind::Syntax, "", message, start..start)
                    .label("here")
                    .help(help(error.kind()));
                break;
            }
        }
    }
    builder.documents
}

/// A collection that is not closed yet.
struct Frame {
    anchor: usize,
    start: usize,
    items: Items,
}

enum Items {
    List(Vec<Rc<Node>>),
    Mapping {
        entries: Vec<Entry>,
        /// Places of keys, to find the first of two equal ones.
        seen: BTreeMap<String, Range<usize>>,
        /// The key whose value comes next; `None` in it for a key that is no text.
        key: Option<(Option<String>, Range<usize>)>,
    },
}

struct Builder<'a, 'r> {
    text: &'a str,
    report: &'r mut Report,
    stack: Vec<Frame>,
    /// Finished nodes by the number of their anchor.
    anchors: HashMap<usize, Rc<Node>>,
    documents: Vec<Rc<Node>>,
}

impl Builder<'_, '_> {
    fn take(&mut self, event: Event<'_>, span: Span) {
        let start = byte_of(self.text, &span.start);
        let end = byte_of(self.text, &span.end).max(start);
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = self.is_tagged_text(tag.as_deref(), start..end);
                let plain = style == ScalarStyle::Plain && !is_text;
                let content = Content::Scalar { text: text.into_owned(), plain };
                self.finished(Node { content, span: start..end }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.is_tagged_text(tag.as_deref(), start..start);
                self.stack.push(Frame { anchor, start, items: Items::List(Vec::new()) });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.is_tagged_text(tag.as_deref(), start..start);
                let items =
                    Items::Mapping { entries: Vec::new(), seen: BTreeMap::new(), key: None };
                self.stack.push(Frame { anchor, start, items });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.stack.pop() else { return };
                let content = match frame.items {
                    Items::List(items) => Content::List(items),
                    Items::Mapping { entries, .. } => Content::Mapping(entries),
                };
                let span = frame.start..end.max(frame.start);
                self.finished(Node { content, span }, frame.anchor);
            }
            Event::Alias(anchor) => {
                let node = match self.anchors.get(&anchor) {
                    // A problem in it is told once for each use, where it was written.
                    Some(node) => node.clone(),
                    None => {
                        let path = self.path();
                        let message = "an alias inside of what it stands for";
                        self.report
                            .problem(ProblemKind::Syntax, &path, message, start..end)
                            .label("stands for itself");
                        let content = Content::Scalar { text: String::new(), plain: true };
                        Rc::new(Node { content, span: start..end })
                    }
                };
                self.place(node, start..end);
            }
            _ => {}
        }
    }

    fn finished(&mut self, node: Node, anchor: usize) {
        let span = node.span.clone();
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, span);
    }

    /// Puts a node where it belongs: into the innermost collection, as a key or a value.
    fn place(&mut self, node: Rc<Node>, span: Range<usize>) {
        let Some(frame) = self.stack.last_mut() else {
            self.documents.push(node);
            return;
        };
        let Items::Mapping { entries, seen, key: waiting } = &mut frame.items else {
            if let Items::List(items) = &mut frame.items {
                items.push(node);
            }
            return;
        };
        match waiting.take() {
            None => match &node.content {
                Content::Scalar { text, .. } => *waiting = Some((Some(text.clone()), span)),
                Content::List(_) | Content::Mapping(_) => {
                    *waiting = Some((None, span.clone()));
                    let path = self.path();
                    self.report
                        .problem(ProblemKind::WrongType, &path, "a key must be a text", span)
                        .label("not a text")
                        .help(Some(
                            "write `name: value`; in a text, put `[` and `{` in quotes".into(),
                        ));
                }
            },
            Some((None, _)) => {}
            Some((Some(key), key_span)) => match seen.get(&key).cloned() {
                None => {
                    seen.insert(key.clone(), key_span.clone());
                    entries.push(Entry { key, key_span, value: node });
                }
                // Beyond the last problem that is told, finding out more is lost time.
                Some(_) if self.report.is_full() => {}
                Some(first) => {
                    let path = join(&self.path(), &key);
                    let message = format!("`{}` is there twice", short(&path));
                    self.report
                        .problem(ProblemKind::DuplicateKey, &path, message, key_span)
                        .label("again here")
                        .also(first, "first here")
                        .help(Some("remove one of the two".into()));
                }
            },
        }
    }

    /// Whether a tag says that a scalar is text; other tags are reported unless YAML's own.
    fn is_tagged_text(&mut self, tag: Option<&Tag>, span: Range<usize>) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some("str") => true,
            Some(_) => false,
            None if tag.suffix() == "!" || tag.original() == "!" => true,
            None => {
                let path = self.path();
                let message = format!("the tag `{}` means nothing here", short(&tag.original()));
                self.report
                    .problem(ProblemKind::Syntax, &path, message, span)
                    .label("with a tag")
                    .help(Some("remove the tag".into()));
                false
            }
        }
    }

    /// The path of the collection that is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for (depth, frame) in self.stack.iter().enumerate() {
            let is_innermost = depth + 1 == self.stack.len();
            match &frame.items {
                Items::List(items) => path.push_str(&format!("[{}]", items.len())),
                Items::Mapping { key: Some((Some(key), _)), .. } if !is_innermost => {
                    path = join(&path, key);
                }
                Items::Mapping { .. } => {}
            }
        }
        path
    }
}

/// `path.key`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The byte that a marker points to; markers of some errors know characters only.
fn byte_of(text: &str, marker: &Marker) -> usize {
    let byte = marker
        .byte_offset()
        .or_else(|| text.char_indices().nth(marker.index()).map(|(byte, _)| byte));
    byte.unwrap_or(text.len()).min(text.len())
}

/// How to mend the mistakes that people make.
fn help(kind: &ErrorKind) -> Option<Cow<'static, str>> {
    let help = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation => "indent with spaces",
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::SimpleKeyExpected => {
            "put a text that holds `: ` in quotes, and check the indentation"
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry => "fields of one mapping start in the same column",
        ErrorKind::UnknownAnchor => "put a text that starts with `*` in quotes",
        ErrorKind::UnexpectedCharacter { .. } => {
            "put a text that starts with `@`, a backquote or `%` in quotes"
        }
        ErrorKind::UnclosedQuotedScalar => "close the quotes",
        ErrorKind::RecursionLimitExceeded => "no manifest is that deep",
        _ => return None,
    };
    Some(help.into())
}
