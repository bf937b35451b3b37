//! Command lines as launchers give them to a remote shell.
//!
//! They set a few variables and then name one program. Those are read here, so that an image needs no
//! shell for them; what says more is for the image's own.

/// Longer ones are no program's arguments.
const MOST_WORDS: usize = 16_384;
/// Words of a shell that begin something else than a program.
const KEYWORDS: [&str; 15] = [
    "if", "for", "while", "until", "case", "{", "}", "!", "function", "select", "cd", ".", "eval",
    "export", "set",
];

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Line {
    /// A program with its arguments, and variables that it finds.
    Program { variables: Vec<(String, String)>, words: Vec<String> },
    /// Something for `/bin/sh -c`.
    ForShell,
}

/// Reads a command line, of which `variable` tells the environment.
///
/// Understood are statements, parted by `;`: `NAME=VALUE`, `export NAME`, `exec PROGRAM …` and, as the
/// last, a program; quotes, and `$NAME`, `${NAME}` and `${NAME:-TEXT}`, whose values are not split.
pub(in super::super) fn read(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Line {
    Reader { rest: text, variable, variables: Vec::new(), has_set: false }
        .line()
        .unwrap_or(Line::ForShell)
}

struct Reader<'a> {
    rest: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// Those that the line has set.
    variables: Vec<(String, String)>,
    /// Whether the statement has set any.
    has_set: bool,
}

impl Reader<'_> {
    fn line(mut self) -> Option<Line> {
        loop {
            let (words, has_more) = self.statement()?;
            match words.first().map(|word| word.text.as_str()) {
                None if has_more => {}
                None => return None,
                // All variables are handed on, so that there is nothing to do.
                Some("export") if words.iter().skip(1).all(|it| is_name(&it.text)) && has_more => {}
                // Only the last statement may be a program: the others' ends would be missed.
                Some(_) if has_more => return None,
                Some(first) if !words.first()?.is_quoted && KEYWORDS.contains(&first) => {
                    return None;
                }
                Some(first) => {
                    let is_exec = first == "exec";
                    let words: Vec<String> =
                        words.into_iter().skip(is_exec.into()).map(|word| word.text).collect();
                    if words.is_empty() || words.len() > MOST_WORDS {
                        return None;
                    }
                    return Some(Line::Program { variables: self.variables, words });
                }
            }
        }
    }

    /// The words up to the next `;`, less the variables that they begin with, and whether anything
    /// follows that.
    fn statement(&mut self) -> Option<(Vec<Word>, bool)> {
        let mut words = Vec::new();
        self.has_set = false;
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            match self.rest.chars().next() {
                None => return Some((words, false)),
                Some(';') => {
                    self.rest = self.rest.strip_prefix(';')?;
                    let has_more = !self.rest.trim().is_empty();
                    return Some((words, has_more));
                }
                Some(_) => {
                    let word = self.word()?;
                    match word.assigned().filter(|_| words.is_empty()) {
                        Some((name, value)) => {
                            self.variables.retain(|(known, _)| known != name);
                            self.variables.push((name.to_owned(), value.to_owned()));
                            self.has_set = true;
                        }
                        None => words.push(word),
                    }
                }
            }
        }
    }

    /// One word, without its quotes.
    fn word(&mut self) -> Option<Word> {
        let mut word = Word { text: String::new(), plain: 0, is_quoted: false };
        let mut is_plain = true;
        loop {
            let Some(next) = self.rest.chars().next() else { return Some(word) };
            match next {
                ' ' | '\t' | ';' => return Some(word),
                '\'' => {
                    let (inside, rest) = self.rest.get(1..)?.split_once('\'')?;
                    word.text.push_str(inside);
                    self.rest = rest;
                    (word.is_quoted, is_plain) = (true, false);
                }
                '"' => {
                    self.rest = self.rest.get(1..)?;
                    self.quoted(&mut word)?;
                    (word.is_quoted, is_plain) = (true, false);
                }
                '\\' => {
                    let escaped = self.rest.get(1..)?.chars().next().filter(|it| *it != '\n')?;
                    word.text.push(escaped);
                    self.rest = self.rest.get(1 + escaped.len_utf8()..)?;
                    (word.is_quoted, is_plain) = (true, false);
                }
                '$' => {
                    let value = self.expanded(&word)?;
                    word.text.push_str(&value);
                    is_plain = false;
                }
                // A comment, a home, or what a shell does with files, other programs or groups.
                '#' | '~' if word.text.is_empty() => return None,
                '`' | '|' | '&' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | '\n' | '\r' => {
                    return None;
                }
                other => {
                    word.text.push(other);
                    self.rest = self.rest.get(other.len_utf8()..)?;
                    if is_plain {
                        word.plain = word.text.len();
                    }
                }
            }
        }
    }

    /// What is between double quotes, the first of which was read.
    fn quoted(&mut self, word: &mut Word) -> Option<()> {
        loop {
            let next = self.rest.chars().next()?;
            match next {
                '"' => {
                    self.rest = self.rest.get(1..)?;
                    return Some(());
                }
                '`' => return None,
                '$' => {
                    let value = self.expanded(word)?;
                    word.text.push_str(&value);
                }
                '\\' => {
                    let escaped = self.rest.get(1..)?.chars().next().filter(|it| *it != '\n')?;
                    // Before any other character it stands for itself.
                    if !matches!(escaped, '"' | '\\' | '$' | '`') {
                        word.text.push('\\');
                    }
                    word.text.push(escaped);
                    self.rest = self.rest.get(1 + escaped.len_utf8()..)?;
                }
                other => {
                    word.text.push(other);
                    self.rest = self.rest.get(other.len_utf8()..)?;
                }
            }
        }
    }

    /// The value that begins with `$`, in a word of which so much was read.
    fn expanded(&mut self, word: &Word) -> Option<String> {
        // A program's words have the values of before its statement; to keep those too is not worth it.
        if self.has_set && word.assigned().is_none() {
            return None;
        }
        let rest = self.rest.get(1..)?;
        if let Some(rest) = rest.strip_prefix('{') {
            let (inside, rest) = rest.split_once('}')?;
            let (name, otherwise) = inside.split_once(":-").unwrap_or((inside, ""));
            // More than letters would have to be expanded itself.
            if !is_name(name) || otherwise.contains(['$', '"', '\'', '`', '\\']) {
                return None;
            }
            self.rest = rest;
            let value = self.value(name).filter(|value| !value.is_empty());
            return Some(value.unwrap_or_else(|| otherwise.to_owned()));
        }
        let length = rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        let (name, rest) = rest.split_at_checked(length.unwrap_or(rest.len()))?;
        if !is_name(name) {
            return None;
        }
        self.rest = rest;
        Some(self.value(name).unwrap_or_default())
    }

    fn value(&self, name: &str) -> Option<String> {
        let own = self.variables.iter().find(|(known, _)| known == name);
        own.map(|(_, value)| value.clone()).or_else(|| (self.variable)(name))
    }
}

/// A word of a line.
struct Word {
    text: String,
    /// Bytes at its start that were written as they are.
    plain: usize,
    is_quoted: bool,
}

impl Word {
    /// Name and value, if it sets a variable.
    fn assigned(&self) -> Option<(&str, &str)> {
        let (name, value) = self.text.split_once('=')?;
        (is_name(name) && name.len() < self.plain).then_some((name, value))
    }
}

fn is_name(text: &str) -> bool {
    let starts = |it: char| it.is_ascii_alphabetic() || it == '_';
    text.starts_with(starts) && text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        let known = [("HOME", "/tmp"), ("LD_LIBRARY_PATH", "/opt/a b"), ("EMPTY", "")];
        known.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
    }

    fn shown(text: &str) -> String {
        match read(text, &environment) {
            Line::ForShell => "for the shell".to_owned(),
            Line::Program { variables, words } => {
                let variables = variables.iter().map(|(name, value)| format!("{name}={value} "));
                format!("{}{words:?}", variables.collect::<String>())
            }
        }
    }

    #[test]
    fn what_launchers_say() {
        // Open MPI 4.1, where it is installed like other packages, and with a prefix.
        assert_eq!(
            shown(" orted -mca ess \"env\" -mca orte_node_regex \"w-[1:0-1]@0(2)\" --tree-spawn"),
            r#"["orted", "-mca", "ess", "env", "-mca", "orte_node_regex", "w-[1:0-1]@0(2)", "--tree-spawn"]"#
        );
        assert_eq!(
            shown(
                "PATH=/opt/bin:$PATH ; export PATH ; LD_LIBRARY_PATH=/opt/lib:${LD_LIBRARY_PATH:-} ; export LD_LIBRARY_PATH ; /opt/bin/orted -mca a \"b\""
            ),
            r#"PATH=/opt/bin: LD_LIBRARY_PATH=/opt/lib:/opt/a b ["/opt/bin/orted", "-mca", "a", "b"]"#
        );
        // Open MPI 5.0.
        assert_eq!(
            shown(
                "PRTE_PREFIX=/env;export PRTE_PREFIX;LD_LIBRARY_PATH=/env/lib:$LD_LIBRARY_PATH;export LD_LIBRARY_PATH;/env/bin/prted --prtemca prte_hnp_uri \"prterun-vm-1@0.0;tcp://192.0.2.2:44537:64,24\""
            ),
            r#"PRTE_PREFIX=/env LD_LIBRARY_PATH=/env/lib:/opt/a b ["/env/bin/prted", "--prtemca", "prte_hnp_uri", "prterun-vm-1@0.0;tcp://192.0.2.2:44537:64,24"]"#
        );
        // MPICH 4.0.
        assert_eq!(
            shown("\"/usr/bin/hydra_pmi_proxy\" --control-port 127.0.0.1:33863 --usize -2"),
            r#"["/usr/bin/hydra_pmi_proxy", "--control-port", "127.0.0.1:33863", "--usize", "-2"]"#
        );
    }

    #[test]
    fn quotes_and_values() {
        assert_eq!(
            shown(r#"a 'b "$HOME' "c \" \$ \x $HOME""#),
            r#"["a", "b \"$HOME", "c \" $ \\x /tmp"]"#
        );
        assert_eq!(shown(r"a\ b\;c é"), r#"["a b;c", "é"]"#);
        assert_eq!(
            shown("A=1 B=$A$A; a ${B}x ${EMPTY:-y} ${NONE:-z}"),
            r#"A=1 B=11 ["a", "11x", "y", "z"]"#
        );
        assert_eq!(shown("a 'A'=1 \"\" B=2"), r#"["a", "A=1", "", "B=2"]"#);
        assert_eq!(shown("exec a b"), r#"["a", "b"]"#);
        // A name that is quoted is none.
        assert_eq!(shown("\"A\"=1"), r#"["A=1"]"#);
        assert_eq!(shown("a;"), r#"["a"]"#);
    }

    #[test]
    fn what_needs_a_shell() {
        for text in [
            "",
            "  ",
            "a | b",
            "a && b",
            "a; b",
            "a > b",
            "a `b`",
            "a \"`b`\"",
            "a $(b)",
            "a \"$(b)\"",
            "a *",
            "a $1",
            "A=1 $A",
            "A=1 a \"$A\"",
            "a ${b%c}",
            "a ${b:-$c}",
            "a 'b",
            "a \"b",
            "a \\",
            "~/a",
            "# a",
            "a\nb",
            "a \"\\\nb\"",
            "( test ! -r ./.profile || . ./.profile; orted )",
            "if true; then a; fi",
            "cd /tmp",
            "A=1",
            "export A",
        ] {
            assert_eq!(shown(text), "for the shell", "{text}");
        }
    }

    proptest! {
        /// Any text is read, and one in single quotes is one word.
        #[test]
        fn never_fails(text in ".{0,60}") {
            let _ = read(&text, &environment);
            let quoted = format!("a '{}'", text.replace('\'', r"'\''"));
            let words = vec!["a".to_owned(), text];
            prop_assert_eq!(read(&quoted, &environment), Line::Program { variables: Vec::new(), words });
        }
    }
}
