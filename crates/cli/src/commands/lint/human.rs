//! Findings for people: the line, a caret, what will happen, how to mend it.

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
            snippet(&mut text, &paint, error.line, line, error.column, 1);
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
            let line = file.line(finding.line);
            let length = if finding.end.line == finding.line {
                finding.end.column.saturating_sub(finding.column).max(1)
            } else {
                line.chars().count().saturating_sub(finding.column - 1).max(1)
            };
            snippet(&mut text, &paint, finding.line, line, finding.column, length);
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

/// A line with its number, and carets below a part of it.
fn snippet(
    text: &mut String,
    paint: &Paint,
    number: usize,
    line: &str,
    column: usize,
    length: usize,
) {
    // What a terminal would take for a command is shown as what it is.
    let characters: Vec<char> =
        line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    let start = column - 1;
    let skip =
        if start + length.min(WIDEST) > WIDEST { start.saturating_sub(WIDEST / 3) } else { 0 };
    let shown: String = characters.iter().skip(skip).take(WIDEST).collect();
    let pad: String = characters
        .iter()
        .skip(skip)
        .take(start - skip)
        .map(|c| if *c == '\t' { '\t' } else { ' ' })
        .collect();
    let room = WIDEST.saturating_sub(start - skip).max(1);
    let carets = "^".repeat(length.min(room).max(1));
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
