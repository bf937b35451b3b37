//! Why a document could not be read.

use granit_parser::ErrorKind;

use super::tree::{File, Span};

/// A document, or a whole file, that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ReadError {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// How to mend it; empty where nothing better can be said.
    pub help: String,
}

impl ReadError {
    /// An error of a file as a whole, such as one that cannot be opened.
    #[must_use]
    pub fn of_file(name: &str, message: String, help: &str) -> Self {
        Self { file: name.to_owned(), line: 1, column: 1, message, help: help.to_owned() }
    }

    pub(super) fn too_large(name: &str) -> Self {
        Self::of_file(
            name,
            "this file is larger than 1 GiB".to_owned(),
            "split it; no manifest is that large",
        )
    }

    pub(super) fn not_text(name: &str, bytes: &[u8], error: std::str::Utf8Error) -> Self {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let good = std::str::from_utf8(good).unwrap_or_default();
        let (line, column) = line_and_column(good);
        Self {
            file: name.to_owned(),
            line,
            column,
            message: "this file is not UTF-8 text".to_owned(),
            help: "save it as UTF-8, or leave it out".to_owned(),
        }
    }

    pub(super) fn at(file: &File, span: Span, message: String, help: &str) -> Self {
        let place = file.place(span.start);
        Self {
            file: file.name.clone(),
            line: place.line,
            column: place.column,
            message,
            help: help.to_owned(),
        }
    }

    /// What a reader of YAML said about a document.
    pub(super) fn syntax(file: &File, document: &str, byte: u32, kind: &ErrorKind) -> Self {
        let span = Span { start: byte, end: byte };
        if let Some(template) = template_in(document) {
            // The reader stops somewhere behind the braces; people look for the braces.
            let line = file.line_span(file.place(byte).line);
            let braces =
                ["{{", "{%"].iter().filter_map(|braces| file.slice(line).find(braces)).min();
            let start = braces.map_or(byte, |at| line.start + at as u32);
            return Self::template(file, Span { start, end: start }, template);
        }
        Self::at(file, span, format!("this is not YAML: {kind}"), help(kind))
    }

    pub(super) fn template(file: &File, span: Span, template: Template) -> Self {
        let (message, help) = match template {
            Template::Helm => (
                "this is a Helm template, not a manifest",
                "render it first: `helm template CHART | trainyard lint -`",
            ),
            Template::Go => (
                "this is a Go template (`{{ … }}`), not a manifest",
                "render it first; a chart with `helm template CHART | trainyard lint -`",
            ),
            Template::Jinja => (
                "this is a Jinja template (`{% … %}`), not a manifest",
                "render it first, and check what comes out",
            ),
        };
        Self::at(file, span, message.to_owned(), help)
    }
}

/// Languages of templates that are found in place of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Template {
    Helm,
    Go,
    Jinja,
}

/// The template language of a text that did not read as YAML.
pub(super) fn template_in(text: &str) -> Option<Template> {
    if text.contains("{%") && text.contains("%}") {
        return Some(Template::Jinja);
    }
    if !(text.contains("{{") && text.contains("}}")) {
        return None;
    }
    let helm = [".Values", ".Release", ".Chart", "include \"", "define \""];
    Some(if helm.iter().any(|word| text.contains(word)) { Template::Helm } else { Template::Go })
}

fn line_and_column(before: &str) -> (usize, usize) {
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// How to mend the mistakes that people make.
fn help(kind: &ErrorKind) -> &'static str {
    match kind {
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
        _ => "mend the YAML here; what stands above this line in the document was read",
    }
}
