//! Findings for people: the line, a caret, what will happen, how to mend it.

use trainyard_rules::yaml::Span;
use trainyard_rules::{Documents, Finding, Level, ReadError};

use super::{count, summary};

/// Columns of a line that are shown; longer ones are cut around the caret.
const WIDEST: usize = 120;

pub(super) fn render(
    documents: &Documents,
    findings: &[Finding],
    errors: &[ReadError],
    colour: bool,
) -> String {
    let paint = Paint { colour };
    let mut text = String::new();
    for error in errors {
        let place = format!("{}:{}:{}", error.file, error.line, error.column);
        text.push_str(&format!(
            "{}{}\n",
            paint.red("error"),
            paint.bold(&format!(": {}", error.message))
        ));
        text.push_str(&format!("  {} {place}\n", paint.blue("-->")));
        let file = documents.files.iter().find(|file| file.name == error.file);
        if let Some(file) = file {
            let line = file.line(error.line);
            let at = line.char_indices().nth(error.column.saturating_sub(1));
            let parts = line.split_at(at.map_or(line.len(), |(at, _)| at));
            snippet(&mut text, &paint, error.line, parts, error.column, 1);
        }
        note(&mut text, &paint, "help", &error.help);
        text.push('\n');
    }
    for finding in findings {
        let head = format!("{}[{}]", finding.level.name(), finding.rule);
        let head = match finding.level {
            Level::Error => paint.red(&head),
            Level::Warning => paint.yellow(&head),
            Level::Hygiene => paint.blue(&head),
        };
        text.push_str(&format!("{head}{}\n", paint.bold(&format!(": {}", finding.message))));
        let place = format!("{}:{}:{}", finding.file, finding.line, finding.column);
        let object = if finding.object.is_empty() {
            String::new()
        } else {
            format!(" ({})", finding.object)
        };
        text.push_str(&format!("  {} {place}{object}\n", paint.blue("-->")));
        if let Some(file) = documents.files.get(finding.file_index) {
            let line = file.line_span(finding.line);
            let before = file.slice(Span { end: finding.span.start, ..line });
            let rest = file.slice(Span { start: finding.span.start, ..line });
            let length = if finding.end.line == finding.line {
                finding.end.column.saturating_sub(finding.column).max(1)
            } else {
                rest.chars().take(WIDEST).count().max(1)
            };
            let parts = (before, rest);
            snippet(&mut text, &paint, finding.line, parts, finding.column, length);
        }
        note(&mut text, &paint, "help", &finding.fix);
        text.push('\n');
    }
    let files = documents.files.len();
    let mut line = format!("{}: {}", count(files, "file"), summary(findings));
    if !errors.is_empty() {
        line.push_str(&format!(", {} not read", count(errors.len(), "document")));
    }
    if findings.iter().any(|finding| !finding.edits.is_empty()) {
        let mendable = findings.iter().filter(|finding| !finding.edits.is_empty()).count();
        line.push_str(&format!("; --fix mends {mendable}"));
    }
    text.push_str(&line);
    text.push('\n');
    text
}

fn note(text: &mut String, paint: &Paint, what: &str, message: &str) {
    if !message.is_empty() {
        text.push_str(&format!("   {} {}: {message}\n", paint.blue("="), paint.bold(what)));
    }
}

/// A line with its number, and carets below a part of it: where its second half begins.
///
/// Only what is shown is looked at: JSON of megabytes may be one line, and have thousands of findings.
fn snippet(
    text: &mut String,
    paint: &Paint,
    number: usize,
    (before, rest): (&str, &str),
    column: usize,
    length: usize,
) {
    // What a terminal would take for a command is shown as what it is.
    let safe = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    let start = column - 1;
    let is_far = start + length.min(WIDEST) > WIDEST;
    let kept = if is_far { start.min(WIDEST / 3) } else { start };
    let from = before.char_indices().rev().take(kept).last().map_or(before.len(), |(at, _)| at);
    let lead: String = before.get(from..).unwrap_or_default().chars().map(safe).collect();
    let shown = rest.chars().take(WIDEST - kept).map(safe);
    let shown: String = lead.chars().chain(shown).collect();
    let pad: String = lead.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let carets = "^".repeat(length.min(WIDEST - kept).max(1));
    let gutter = format!("{number:>4}");
    let bar = paint.blue("|");
    text.push_str(&format!("     {bar}\n{} {bar} {shown}\n", paint.blue(&gutter)));
    text.push_str(&format!("     {bar} {pad}{}\n", paint.red(&carets)));
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
    fn red(&self, text: &str) -> String {
        self.with("1;31", text)
    }
    fn yellow(&self, text: &str) -> String {
        self.with("1;33", text)
    }
    fn blue(&self, text: &str) -> String {
        self.with("1;34", text)
    }
    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
}
