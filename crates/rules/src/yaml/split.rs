//! Where the documents of a text begin and end.

use std::ops::Range;

/// Ranges of a text that each hold one document, or a few that `...` sets apart.
///
/// YAML forbids a line that starts with `---` and a blank inside of any scalar ("c-forbidden"),
/// so the split needs no parser. Directives (`%YAML 1.2`) stay with the document they open.
pub(super) fn documents(text: &str) -> Vec<Range<usize>> {
    let marks = memchr::memmem::Finder::new("\n---");
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        if at > start && is_marker(rest) && !only_directives(text.get(start..at)) {
            ranges.push(start..at);
            start = at;
        }
        at = match marks.find(rest.as_bytes()) {
            Some(next) => at + next + 1,
            None => text.len(),
        };
    }
    ranges.push(start..text.len());
    ranges
}

fn is_marker(rest: &str) -> bool {
    rest.strip_prefix("---")
        .is_some_and(|tail| tail.is_empty() || tail.starts_with([' ', '\t', '\n', '\r']))
}

/// Whether a piece holds directives and comments and nothing else, so that it belongs to the
/// document behind the marker.
fn only_directives(piece: Option<&str>) -> bool {
    let Some(piece) = piece else { return false };
    let mut directives = false;
    for line in piece.lines() {
        match line.trim_start().bytes().next() {
            None | Some(b'#') => {}
            Some(b'%') if line.starts_with('%') => directives = true,
            Some(_) => return false,
        }
    }
    directives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let pieces: Vec<&str> = documents(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(pieces, expected);
    }

    #[test]
    fn table() {
        check("", &[""]);
        check("a: 1\n", &["a: 1\n"]);
        check("a: 1\n---\nb: 2\n", &["a: 1\n", "---\nb: 2\n"]);
        check("---\na: 1\n--- b\n---", &["---\na: 1\n", "--- b\n", "---"]);
        check("a: |\n  ---\n  x\n---\n", &["a: |\n  ---\n  x\n", "---\n"]);
        check("----\nx\n---x\n", &["----\nx\n---x\n"]);
        check("%YAML 1.1\n# c\n---\na: 1\n", &["%YAML 1.1\n# c\n---\na: 1\n"]);
        check("a: 1\r\n---\r\nb: 2\r\n", &["a: 1\r\n", "---\r\nb: 2\r\n"]);
    }
}
