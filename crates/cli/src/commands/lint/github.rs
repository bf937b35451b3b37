//! Findings as annotations of GitHub Actions.

use trainyard_rules::{Finding, Level, ReadError};

pub(super) fn render(findings: &[Finding], errors: &[ReadError]) -> String {
    let mut text = String::new();
    for error in errors {
        text.push_str(&format!(
            "::error file={},line={},col={}::{}\n",
            property(&error.file),
            error.line,
            error.column,
            data(&sentence(&error.message, &error.help))
        ));
    }
    for finding in findings {
        let command = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Hygiene => "notice",
        };
        text.push_str(&format!(
            "::{command} file={},line={},col={},endLine={},endColumn={},title={}::{}\n",
            property(&finding.file),
            finding.line,
            finding.column,
            finding.end.line,
            finding.end.column,
            property(&finding.rule),
            data(&sentence(&finding.message, &finding.fix))
        ));
    }
    text
}

fn sentence(message: &str, help: &str) -> String {
    if help.is_empty() { message.to_owned() } else { format!("{message}\n{help}") }
}

/// Escapes as the runner undoes them (actions/toolkit, packages/core/src/command.ts).
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
