//! Findings that people do not want to hear of, and why not.

use crate::settings::names;
use crate::yaml::File;

/// What a comment starts with.
const MARK: &str = "trainyard:ignore";

/// What an annotation's key starts with; the rule's identifier in small letters follows.
pub(crate) const ANNOTATION: &str = "trainyard.dev/ignore-";

/// A comment that asks for silence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// Where it stands: a byte of the file.
    pub(crate) at: u32,
    /// Rules and groups.
    pub(crate) rules: Vec<String>,
    pub(crate) reason: String,
    /// Lines that it is about, first and last.
    pub(crate) lines: (usize, usize),
    /// The last line that it or one before it in the file is about.
    reach: usize,
}

/// Whether one of a file's comments, in their order, silences a rule in a line.
pub(crate) fn silenced(comments: &[Comment], rule: &str, line: usize) -> bool {
    // Where they are about rises with where they stand; those before `reach` have all ended.
    let end = comments.partition_point(|comment| comment.lines.0 <= line);
    let before = comments.get(..end).unwrap_or_default();
    before
        .iter()
        .rev()
        .take_while(|comment| comment.reach >= line)
        .any(|comment| comment.silences(rule, line))
}

impl Comment {
    fn silences(&self, rule: &str, line: usize) -> bool {
        !self.reason.is_empty()
            && (self.lines.0..=self.lines.1).contains(&line)
            && self.rules.iter().any(|name| names(name, rule))
    }
}

/// Comments of a file that ask for silence. Files without any cost one search.
pub(crate) fn comments(file: &File) -> Vec<Comment> {
    let mut found: Vec<Comment> = Vec::new();
    for at in memchr::memmem::find_iter(file.text.as_bytes(), MARK) {
        let byte = at as u32;
        let line = file.place(byte).line;
        let text = file.line(line);
        let column = at - file.line_span(line).start as usize;
        let (Some(before), Some(after)) = (text.get(..column), text.get(column + MARK.len()..))
        else {
            continue;
        };
        let Some(hash) = before.rfind('#') else { continue };
        if !before.get(hash + 1..).unwrap_or_default().trim().is_empty() {
            continue;
        }
        let after = after.trim_start_matches(':').trim();
        let (rules, reason) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        let rules = rules.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let own_line = before.get(..hash).unwrap_or_default().trim().is_empty();
        let first = if own_line { next_content(file, line + 1) } else { line };
        let lines = (first, last_of_block(file, first, own_line));
        let reach = found.last().map_or(0, |before| before.reach).max(lines.1);
        found.push(Comment {
            at: byte,
            rules,
            reason: reason.trim().trim_start_matches(['-', ':']).trim().to_owned(),
            lines,
            reach,
        });
    }
    found
}

fn is_content(line: &str) -> bool {
    let text = line.trim_start();
    !text.is_empty() && !text.starts_with('#')
}

/// The first line from `line` on that is neither empty nor a comment.
fn next_content(file: &File, mut line: usize) -> usize {
    let end = file.text.len() as u32;
    while file.line_span(line).start < end && !is_content(file.line(line)) {
        line += 1;
    }
    line
}

/// The last line of what starts in a line: deeper lines belong to it. A comment in a line of its
/// own above a document's first line is about the whole document.
fn last_of_block(file: &File, first: usize, own_line: bool) -> usize {
    let end = file.text.len() as u32;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(file.line(first));
    let starts_document = own_line
        && own == 0
        && (1..first)
            .rev()
            .map(|line| file.line(line))
            .find(|line| is_content(line))
            .is_none_or(|line| line.starts_with("---"));
    let mut last = first;
    let mut line = first + 1;
    while file.line_span(line).start < end {
        let text = file.line(line);
        if text.starts_with("---") || (is_content(text) && indent(text) <= own && !starts_document)
        {
            break;
        }
        last = line;
        line += 1;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Documents, Source};

    #[track_caller]
    fn check(text: &str, expected: &[(&[&str], &str, (usize, usize))]) {
        let source = Source { name: "a".into(), text: text.into() };
        let documents = Documents::read(vec![source]);
        let found = comments(&documents.files[0]);
        let found: Vec<(Vec<&str>, &str, (usize, usize))> = found
            .iter()
            .map(|c| (c.rules.iter().map(String::as_str).collect(), c.reason.as_str(), c.lines))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(rules, reason, lines)| (rules.to_vec(), *reason, *lines))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_comments_are_about() {
        check(
            "a: 1 # trainyard:ignore GPU07 our label\nb: 2\n",
            &[(&["GPU07"], "our label", (1, 1))],
        );
        check(
            "a:\n  # trainyard:ignore GPU07,SRV ours\n  b:\n    c: 1\n  d: 1\n",
            &[(&["GPU07", "SRV"], "ours", (3, 4))],
        );
        check(
            "# trainyard:ignore GPU08 x\n\na: 1\nb: 2\n---\nc: 1\n",
            &[(&["GPU08"], "x", (3, 4))],
        );
        check("a: # trainyard:ignore GPU07 x\n  b: 1\nc: 1\n", &[(&["GPU07"], "x", (1, 2))]);
        check("a: 1 # trainyard:ignore GPU07\n", &[(&["GPU07"], "", (1, 1))]);
        check("a: trainyard:ignore GPU07 x\n", &[]);
        check("# trainyard:ignore GPU07 x", &[(&["GPU07"], "x", (2, 2))]);
    }
}
