//! Collects problems and turns bytes into lines and columns.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::errors::{ManifestErrors, Mark, Problem, ProblemKind};
use super::located::{Place, Source};
use super::shape::Shape;

/// More than this many help nobody, and a hostile file could have one for each of its bytes.
const MOST_PROBLEMS: usize = 100;

/// The problems of one text.
pub(super) struct Report {
    source: Arc<Source>,
    /// Where each line starts.
    lines: Vec<usize>,
    problems: Vec<Problem>,
    /// Takes the details of a problem beyond the last.
    spare: Option<Problem>,
    /// What the `spec` of the document should look like that is being read.
    spec: Option<&'static Shape>,
}

impl Report {
    pub(super) fn new(source: Arc<Source>) -> Self {
        let starts = source.text.match_indices('\n').map(|(at, _)| at.saturating_add(1));
        let lines = std::iter::once(0).chain(starts).collect();
        Self { source, lines, problems: Vec::new(), spare: None, spec: None }
    }

    /// Says which resource is read from now on.
    pub(super) fn reads(&mut self, spec: &'static Shape) {
        self.spec = Some(spec);
    }

    /// The shape of the resource that is being read; none before its kind is known.
    pub(super) fn spec(&self) -> Option<&'static Shape> {
        self.spec
    }

    /// Adds a problem; its label, help and second place follow.
    pub(super) fn problem(
        &mut self,
        kind: ProblemKind,
        path: &str,
        message: impl Into<String>,
        span: Range<usize>,
    ) -> Detail<'_> {
        let problem = Problem {
            kind,
            path: path.to_owned(),
            message: message.into(),
            help: None,
            at: Mark { place: self.place(span), label: String::new() },
            also: None,
        };
        let index = self.problems.len();
        if index < MOST_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.spare = Some(problem);
        }
        Detail { report: self, index }
    }

    pub(super) fn len(&self) -> usize {
        self.problems.len().saturating_add(usize::from(self.spare.is_some()))
    }

    pub(super) fn is_full(&self) -> bool {
        self.spare.is_some()
    }

    /// The place of a span. One of several lines is cut at the end of its first; an empty one gets
    /// the character that it stands before.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let text = &self.source.text;
        let start = floor(text, span.start.min(text.len()));
        let rest = text.get(start..).unwrap_or_default();
        let line_end = rest.find(['\n', '\r']).unwrap_or(rest.len()).saturating_add(start);
        let mut end = floor(text, span.end.clamp(start, line_end));
        let trimmed = text.get(start..end).unwrap_or_default().trim_end().len();
        if trimmed > 0 {
            end = start.saturating_add(trimmed);
        } else if start < line_end {
            let width = rest.chars().next().map_or(0, char::len_utf8);
            end = start.saturating_add(width);
        }
        let line = self.lines.partition_point(|first| *first <= start).max(1);
        let line_start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = text.get(line_start..start).unwrap_or_default();
        Place { line, column: before.chars().count().saturating_add(1), span: start..end }
    }

    /// All problems in the order of the text, if there are any.
    pub(super) fn into_result<T>(mut self, value: T) -> Result<T, ManifestErrors> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems.sort_by(|a, b| {
            let key = |p: &Problem| (p.at.place.span.start, p.kind, p.path.clone());
            key(a).cmp(&key(b))
        });
        Err(ManifestErrors { source: self.source, problems: self.problems })
    }
}

/// The largest boundary of a character that is not after `at`.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    at
}

/// What else there is to say about a problem.
pub(super) struct Detail<'a> {
    report: &'a mut Report,
    index: usize,
}

impl Detail<'_> {
    pub(super) fn label(self, label: impl Into<String>) -> Self {
        self.change(|problem| problem.at.label = label.into())
    }

    pub(super) fn help(self, help: Option<Cow<'static, str>>) -> Self {
        self.change(|problem| problem.help = help.map(Cow::into_owned))
    }

    pub(super) fn also(self, span: Range<usize>, label: &str) -> Self {
        let place = self.report.place(span);
        self.change(|problem| problem.also = Some(Mark { place, label: label.to_owned() }))
    }

    fn change(self, change: impl FnOnce(&mut Problem)) -> Self {
        let Report { problems, spare, .. } = &mut *self.report;
        if let Some(problem) = problems.get_mut(self.index).or(spare.as_mut()) {
            change(problem);
        }
        self
    }
}
