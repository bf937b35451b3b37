//! A document as a tree whose every part knows its place.

use std::ops::Range;
use std::rc::Rc;

/// A value in a text. Aliases share the node that they stand for.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    /// Bytes of the text. Of a collection: from its start to its end.
    pub(super) span: Range<usize>,
}

#[derive(Debug)]
pub(super) enum Content {
    /// A text. `plain` if it stands without quotes, so that it may mean a number or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    /// In the order of the text; no key twice.
    Mapping(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Rc<Node>,
}

/// What a plain scalar means to Kubernetes' loader, which follows YAML 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Null,
    Boolean(bool),
    /// A whole number in decimal, without a leading zero: the same in all versions of YAML.
    Integer,
    /// A number that versions of YAML read differently, such as `017` and `1_000`, or in another
    /// base.
    OddInteger,
    /// A number with a fraction or an exponent, infinity, or no number.
    Float,
    Text,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if Meaning::of(text) == Meaning::Null)
    }

    /// The value of an entry, if it is a mapping that has the key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            Content::Scalar { .. } | Content::List(_) => None,
        }
    }

    /// The value in words, for "and this is …". Texts are cut where they get long.
    pub(super) fn describe(&self) -> String {
        match &self.content {
            Content::List(_) => "a list".to_owned(),
            Content::Mapping(_) => "a mapping".to_owned(),
            Content::Scalar { text, plain: false } => format!("the text `{}`", short(text)),
            Content::Scalar { text, plain: true } => match Meaning::of(text) {
                Meaning::Null => "empty".to_owned(),
                Meaning::Boolean(value) if value.to_string() == *text => {
                    format!("the boolean `{text}`")
                }
                Meaning::Boolean(value) => {
                    format!("`{text}`, which YAML reads as the boolean `{value}`")
                }
                Meaning::Integer | Meaning::OddInteger | Meaning::Float => {
                    format!("the number `{}`", short(text))
                }
                Meaning::Text => format!("the text `{}`", short(text)),
            },
        }
    }
}

/// The first line of a text, at most 60 characters of it.
pub(super) fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None if line.len() < text.trim_end().len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

impl Meaning {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => {
                return Self::Boolean(true);
            }
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off"
            | "OFF" => return Self::Boolean(false),
            _ => {}
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
        {
            return Self::Float;
        }
        let Some(first) = unsigned.bytes().next() else {
            return Self::Text;
        };
        let all =
            |part: &str, is: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|b| is(&b));
        let digits = |part: &str| all(part, u8::is_ascii_digit);
        if digits(unsigned) {
            let leading_zero = first == b'0' && unsigned.len() > 1;
            return if leading_zero { Self::OddInteger } else { Self::Integer };
        }
        let lower = unsigned.to_ascii_lowercase();
        let based = [
            ("0x", u8::is_ascii_hexdigit as fn(&u8) -> bool),
            ("0o", |b| (b'0'..=b'7').contains(b)),
            ("0b", |b| matches!(b, b'0' | b'1')),
        ];
        if based
            .iter()
            .any(|(prefix, is)| lower.strip_prefix(prefix).is_some_and(|rest| all(rest, *is)))
        {
            return Self::OddInteger;
        }
        if first.is_ascii_digit() && all(unsigned, |b| b.is_ascii_digit() || *b == b'_') {
            return Self::OddInteger;
        }
        let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = (digits(whole) || (whole.is_empty() && !fraction.is_empty()))
            && (fraction.is_empty() || digits(fraction))
            && digits(exponent);
        if is_number { Self::Float } else { Self::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: Meaning, texts: &[&str]) {
        for text in texts {
            assert_eq!(Meaning::of(text), expected, "{text}");
        }
    }

    #[test]
    fn meanings() {
        check(Meaning::Null, &["", "~", "null"]);
        check(Meaning::Boolean(true), &["true", "yes", "on", "Y"]);
        check(Meaning::Boolean(false), &["false", "No", "OFF", "n"]);
        check(Meaning::Integer, &["0", "7", "-3", "+12", "99999999999999999999999"]);
        check(Meaning::OddInteger, &["017", "0x1F", "0o17", "0b1", "1_000"]);
        check(
            Meaning::Float,
            &["0.5", "1.", ".5", "1e3", "-1.5E-7", ".inf", "-.INF", ".nan", "0e9"],
        );
        check(Meaning::Text, &["-", "+", "1m", "70%", "1/4", "e3", ".", "1.2.3", "nope", "0x"]);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(short("one\ntwo"), "one…");
        assert_eq!(short(&"é".repeat(70)), format!("{}…", "é".repeat(60)));
        assert_eq!(short("short\n"), "short");
    }
}
