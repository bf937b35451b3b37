//! Findings as a Markdown table, for comments of reviews.

use trainyard_rules::{Finding, ReadError};

use super::summary;

pub(super) fn render(findings: &[Finding], errors: &[ReadError]) -> String {
    let mut text = format!("**{}**\n", summary(findings));
    if !findings.is_empty() {
        text.push_str(
            "\n| rule | level | where | object | what happens | fix |\n|---|---|---|---|---|---|\n",
        );
        for finding in findings {
            text.push_str(&format!(
                "| {} | {} | {}:{} | {} | {} | {} |\n",
                finding.rule,
                finding.level.name(),
                cell(&finding.file),
                finding.line,
                cell(&finding.object),
                cell(&finding.message),
                cell(&finding.fix)
            ));
        }
    }
    if !errors.is_empty() {
        text.push_str("\nNot read:\n\n");
        for error in errors {
            text.push_str(&format!("- {}\n", cell(&error.to_string())));
        }
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}
