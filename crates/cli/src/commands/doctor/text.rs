//! The answer for people.

use std::collections::BTreeMap;

use trainyard_diagnose::{Answer, Confidence, Fix, Focus, Level};

use crate::commands::lint::page_address;

/// Others with the same trouble that are named.
const SHOWN: usize = 4;
/// Longest piece of evidence, in characters.
const WIDEST: usize = 300;

pub(super) fn render(answer: &Answer, focus: &Focus, colour: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let mut text = String::new();
    for finding in &answer.findings {
        let head = format!("{}[{}]", finding.level.name(), finding.diagnosis);
        let code = if finding.level == Level::Error { "1;31" } else { "1;33" };
        let sure = match finding.confidence {
            Confidence::Certain => String::new(),
            other => format!(" ({})", other.name()),
        };
        let message = plain(&finding.message);
        text.push_str(&format!(
            "{}{}{sure}\n",
            paint(code, &head),
            paint("1", &format!(": {message}"))
        ));
        let mut objects = vec![finding.object.to_string()];
        objects.extend(finding.also.iter().take(SHOWN).map(ToString::to_string));
        let rest = finding.also.len().saturating_sub(SHOWN);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        text.push_str(&format!(
            "  {} {}{more}\n",
            paint("1;34", "-->"),
            plain(&objects.join(", "))
        ));
        for evidence in &finding.evidence {
            let line = cut(&plain(&evidence.to_string()));
            text.push_str(&format!("   {} {line}\n", paint("1;34", "|")));
        }
        for fix in &finding.fix {
            let label = match fix {
                Fix::Advice { .. } => "fix:",
                Fix::Command { .. } | Fix::Patch { .. } => "run:",
            };
            text.push_str(&format!(
                "   {} {} {}\n",
                paint("1;34", "="),
                paint("1", label),
                plain(&fix.to_string())
            ));
        }
        if !finding.rules.is_empty() {
            let pages =
                finding.rules.first().and_then(|rule| page_address(rule)).unwrap_or_default();
            text.push_str(&format!(
                "   {} {} {} ({pages})\n",
                paint("1;34", "="),
                paint("1", "lint:"),
                finding.rules.join(", ")
            ));
        }
        text.push('\n');
    }
    let mut unknown: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for it in &answer.unknown {
        unknown.entry(&it.reason).or_default().push(it.diagnosis);
    }
    for (reason, ids) in &unknown {
        text.push_str(&format!(
            "{}: {} could not be checked, or not in full: {}\n",
            paint("1;36", "unknown"),
            ids.join(", "),
            cut(&plain(reason))
        ));
    }
    if !unknown.is_empty() {
        text.push('\n');
    }
    text.push_str(&summary(answer, focus));
    text.push('\n');
    text
}

fn summary(answer: &Answer, focus: &Focus) -> String {
    let count = |level: Level, what: &str| {
        let number = answer.findings.iter().filter(|it| it.level == level).count();
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {what}{plural}"))
    };
    let parts: Vec<String> = [count(Level::Error, "error"), count(Level::Warning, "warning")]
        .into_iter()
        .flatten()
        .collect();
    let found = if parts.is_empty() { "nothing found".to_owned() } else { parts.join(", ") };
    let place = match (&focus.target, &focus.namespace) {
        (Some(target), _) => format!(" for `{}`", target.name),
        (None, Some(namespace)) => format!(" in the namespace `{namespace}`"),
        (None, None) => String::new(),
    };
    let unknown = match answer.unknown.len() {
        0 => String::new(),
        1 => "; 1 check unknown".to_owned(),
        number => format!("; {number} checks unknown"),
    };
    format!("{found}{place}{unknown}")
}

/// Without what a terminal would take for a command: logs hold anything.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDEST {
        return text.to_owned();
    }
    text.chars().take(WIDEST).chain(['…']).collect()
}
