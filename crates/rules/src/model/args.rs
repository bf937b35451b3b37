//! A container's command line: words and flags, shell scripts taken apart.

use std::borrow::Cow;

use crate::yaml::{Node, Span};

/// One word of a command line.
#[derive(Debug, Clone)]
pub struct Word<'b> {
    pub text: Cow<'b, str>,
    /// The scalar that it stands in: an argument, or a whole script.
    pub node: Node<'b>,
    /// Whether a command may start here: the first word, or one behind `&&`, `;`, `|`.
    pub starts_command: bool,
}

/// A flag of a command line.
#[derive(Debug, Clone)]
pub struct Flag<'b> {
    /// As written, without `=` and value.
    pub name: Cow<'b, str>,
    /// Its value, variables replaced where the container's own literals give them. `None` for a
    /// flag without one, and for a value that only the running shell knows.
    pub value: Option<Cow<'b, str>>,
    pub node: Node<'b>,
}

impl<'b> Flag<'b> {
    /// Where it stands, also within a script.
    #[must_use]
    pub fn place(&self) -> Span {
        self.node.find(&self.name)
    }

    #[must_use]
    pub fn int(&self) -> Option<i64> {
        self.value.as_deref()?.trim().parse().ok()
    }

    #[must_use]
    pub fn number(&self) -> Option<f64> {
        self.value.as_deref()?.trim().parse().ok().filter(|number: &f64| number.is_finite())
    }
}

/// Words of `command` and `args`. Where a shell runs a script (`sh -c`), the script's words.
pub(super) fn words<'b>(command: Node<'b>, args: Node<'b>) -> Vec<Word<'b>> {
    let mut words = Vec::new();
    for (at, node) in listed(command).chain(listed(args)).enumerate() {
        let Some(text) = node.text() else { continue };
        // A script: several lines, or what follows `-c`, `-lc` and the like of a shell.
        let last = words.iter().rev().find(|word: &&Word<'_>| word.text != "--");
        let behind_c = last.is_some_and(|word| is_script_flag(&word.text));
        let in_shell = behind_c && words.iter().rev().take(6).any(|word| is_shell(&word.text));
        if in_shell || text.contains('\n') {
            split_script(text, node, &mut words);
        } else {
            let starts_command = at == 0;
            words.push(Word { text: Cow::Borrowed(text), node, starts_command });
        }
    }
    words
}

/// Items of a list; KServe and others also take one text.
fn listed(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    node.items().chain(node.is_scalar().then_some(node))
}

fn is_script_flag(word: &str) -> bool {
    word.len() <= 6
        && word.strip_prefix('-').is_some_and(|letters| {
            letters.ends_with('c') && letters.bytes().all(|b| b.is_ascii_lowercase())
        })
}

/// Whether a word runs a shell.
pub(super) fn is_shell(word: &str) -> bool {
    matches!(program(word), "sh" | "bash" | "ash" | "dash" | "zsh")
}

/// The last part of a path.
pub(super) fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or_default()
}

/// Splits a script the way a shell would, as far as that is clear without running it: quotes,
/// comments, continued lines and separators; substitutions stay as they are written.
fn split_script<'b>(script: &'b str, node: Node<'b>, words: &mut Vec<Word<'b>>) {
    let bytes = script.as_bytes();
    let mut at = 0;
    let mut starts_command = true;
    // The word being read: borrowed from `start` as long as nothing was taken out of it.
    let mut start: Option<usize> = None;
    let mut owned: Option<String> = None;
    let mut finish = |start: &mut Option<usize>,
                      owned: &mut Option<String>,
                      end: usize,
                      starts_command: &mut bool| {
        let Some(from) = start.take() else { return };
        let text = match owned.take() {
            Some(text) => Cow::Owned(text),
            None => Cow::Borrowed(script.get(from..end).unwrap_or_default()),
        };
        // `VAR=value command`: the command is still to come.
        let assigns = *starts_command && is_assignment(&text);
        words.push(Word { text, node, starts_command: *starts_command });
        *starts_command = assigns;
    };
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if bytes.get(at + 1) == Some(&b'\n') => {
                finish(&mut start, &mut owned, at, &mut starts_command);
                at += 2;
                continue;
            }
            b'\\' if bytes.get(at + 1) == Some(&b'\r') && bytes.get(at + 2) == Some(&b'\n') => {
                finish(&mut start, &mut owned, at, &mut starts_command);
                at += 3;
                continue;
            }
            b' ' | b'\t' | b'\r' => finish(&mut start, &mut owned, at, &mut starts_command),
            b'\n' | b';' | b'|' | b'&' | b'(' | b')' if byte != b'(' || start.is_none() => {
                // `2>&1` and `&>` are no separators, but nothing is lost by taking them for one.
                finish(&mut start, &mut owned, at, &mut starts_command);
                starts_command = true;
            }
            b'#' if start.is_none() => {
                at = script
                    .get(at..)
                    .and_then(|rest| rest.find('\n'))
                    .map_or(bytes.len(), |n| at + n);
                continue;
            }
            quote @ (b'"' | b'\'') => {
                let from = *start.get_or_insert(at);
                let text = owned
                    .get_or_insert_with(|| script.get(from..at).unwrap_or_default().to_owned());
                let rest = script.get(at + 1..).unwrap_or_default();
                let end = closing(rest, quote);
                text.push_str(rest.get(..end).unwrap_or_default());
                at += end + 2;
                continue;
            }
            _ => {
                // One character, which may be several bytes.
                let length =
                    script.get(at..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8);
                start.get_or_insert(at);
                if let Some(text) = &mut owned {
                    text.push_str(script.get(at..at + length).unwrap_or_default());
                }
                at += length;
                continue;
            }
        }
        at += 1;
    }
    finish(&mut start, &mut owned, bytes.len(), &mut starts_command);
}

/// Where a quoted text ends; a backslash keeps a double quote inside.
fn closing(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quote == b'"' => escaped = true,
            _ if byte == quote => return at,
            _ => {}
        }
    }
    rest.len()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Whether two names of flags are one: `_` and `-` do not differ, nor do one dash and two in front
/// of a long name.
pub(super) fn same_flag(a: &str, b: &str) -> bool {
    let bare = |name: &str| name.trim_start_matches('-').len();
    let long = bare(a) > 1 && bare(b) > 1;
    let (a, b) = if long { (a.trim_start_matches('-'), b.trim_start_matches('-')) } else { (a, b) };
    a.len() == b.len()
        && a.bytes().zip(b.bytes()).all(|(x, y)| {
            let dash = |c: u8| if c == b'_' { b'-' } else { c };
            dash(x) == dash(y)
        })
}

/// Whether a word can be a flag: a dash and a letter. `-1` is a value.
pub(super) fn is_flag(word: &str) -> bool {
    let bare = word.trim_start_matches('-');
    bare.len() < word.len() && bare.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The flag at a word, `--a=b` and `--a b` alike; `None` if there is none.
pub(super) fn flag_at<'b>(words: &[Word<'b>], at: usize) -> Option<Flag<'b>> {
    let word = words.get(at)?;
    if !is_flag(&word.text) {
        return None;
    }
    if let Some(equals) = word.text.find('=') {
        let cut = |range: std::ops::Range<usize>| match &word.text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
            Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_owned()),
        };
        let name = cut(0..equals);
        let value = Some(cut(equals + 1..word.text.len()));
        return Some(Flag { name, value, node: word.node });
    }
    // One argument may hold both: `- --port 80`.
    if let Some(blank) = word.text.find(' ')
        && let Cow::Borrowed(text) = word.text
    {
        let name = Cow::Borrowed(text.get(..blank).unwrap_or_default());
        let value = Some(Cow::Borrowed(text.get(blank + 1..).unwrap_or_default().trim()));
        return Some(Flag { name, value, node: word.node });
    }
    let value = words
        .get(at + 1)
        .filter(|next| !next.starts_command && !is_flag(&next.text))
        .map(|next| next.text.clone());
    Some(Flag { name: word.text.clone(), value, node: word.node })
}
