//! A pull reader: the caller asks for the value it expects next.

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::SmallVec;

use super::error::{JsonError, excerpt};

/// Arrays and objects within each other, as deep as Triton allows.
const MAX_DEPTH: usize = 100;

/// Members of an object up to which its keys are compared one by one.
const FEW_KEYS: usize = 16;

/// What stands next in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A number as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number<'a> {
    /// RFC 8259's grammar, or one of the tokens for what it cannot express.
    pub(crate) text: &'a str,
    /// Without fraction and exponent.
    pub(crate) is_integer: bool,
    /// Where it starts.
    pub(crate) offset: usize,
}

/// Reads one JSON text from front to back.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte. The text must be UTF-8 as a whole.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| JsonError::new(error.valid_up_to(), "the text is not valid UTF-8"))?;
        Ok(Self { text, bytes, at: 0, depth: 0 })
    }

    /// Bytes from the start of the text to what was not read yet.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// What kind of value stands next.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Kind, JsonError> {
        match self.next_byte() {
            Some(b'0'..=b'9' | b'-' | b'N' | b'I') => Ok(Kind::Number),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Whether an array stands next.
    #[inline]
    pub(crate) fn is_array(&mut self) -> bool {
        self.next_byte() == Some(b'[')
    }

    /// Checks that nothing but white space follows.
    pub(crate) fn finish(&mut self) -> Result<(), JsonError> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("nothing after the value")),
        }
    }

    /// Reads an array, giving each element's index to `element`, which must read the element.
    /// Returns the number of elements.
    #[inline]
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> Result<(), JsonError>,
    ) -> Result<usize, JsonError> {
        self.enter(b'[', "an array")?;
        let mut count = 0usize;
        if self.next_byte() == Some(b']') {
            self.leave();
            return Ok(count);
        }
        loop {
            element(self, count).map_err(|error| error.in_element(count))?;
            count = count.saturating_add(1);
            match self.next_byte() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
        self.leave();
        Ok(count)
    }

    /// Reads an object, giving each key to `member`, which must read the value. A key that comes
    /// twice is an error.
    #[inline]
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.enter(b'{', "an object")?;
        if self.next_byte() == Some(b'}') {
            self.leave();
            return Ok(());
        }
        let mut keys = Keys::default();
        loop {
            if self.next_byte() != Some(b'"') {
                return Err(self.unexpected("a key in quotes"));
            }
            let key_at = self.at;
            let key = self.string()?;
            if keys.contains(&key) {
                let problem = format!("the key '{}' is given twice", excerpt(&key));
                return Err(JsonError::new(key_at, problem));
            }
            if self.next_byte() != Some(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.at += 1;
            member(self, &key).map_err(|error| error.in_member(&key))?;
            keys.insert(key);
            match self.next_byte() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
        self.leave();
        Ok(())
    }

    /// Reads a string; without escapes it is a slice of the text.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        if self.next_byte() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        let opening = self.at;
        self.at += 1;
        let start = self.at;
        self.run_of_plain_characters();
        if self.bytes.get(self.at) == Some(&b'"') {
            let plain = self.slice(start, self.at);
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut decoded = String::from(self.slice(start, self.at));
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(decoded));
                }
                Some(b'\\') => decoded.push(self.escape()?),
                Some(_) => {
                    let problem = "a control character in a string must be escaped";
                    return Err(JsonError::new(self.at, problem));
                }
                None => return Err(JsonError::new(opening, "the string does not end")),
            }
            let start = self.at;
            self.run_of_plain_characters();
            decoded.push_str(self.slice(start, self.at));
        }
    }

    /// Reads `true` or `false`.
    pub(crate) fn bool(&mut self) -> Result<bool, JsonError> {
        self.next_byte();
        if self.literal("true") {
            Ok(true)
        } else if self.literal("false") {
            Ok(false)
        } else {
            Err(self.unexpected("true or false"))
        }
    }

    /// Reads `null`.
    pub(crate) fn null(&mut self) -> Result<(), JsonError> {
        self.next_byte();
        if self.literal("null") { Ok(()) } else { Err(self.unexpected("null")) }
    }

    /// Reads a number; `expected` describes it in the error.
    #[inline]
    pub(crate) fn number(&mut self, expected: &str) -> Result<Number<'a>, JsonError> {
        let first = self.next_byte();
        let start = self.at;
        if first == Some(b'-') {
            self.at += 1;
        }
        let mut is_integer = true;
        match self.bytes.get(self.at) {
            Some(b'0') => {
                self.at += 1;
                if self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                    return Err(JsonError::new(start, "a number must not start with 0"));
                }
            }
            Some(b'1'..=b'9') => self.digits(),
            Some(b'N') if self.literal("NaN") => is_integer = false,
            Some(b'I') if self.literal("Infinity") || self.literal("Inf") => is_integer = false,
            _ => {
                self.at = start;
                return Err(self.unexpected(expected));
            }
        }
        if is_integer {
            if self.bytes.get(self.at) == Some(&b'.') {
                is_integer = false;
                self.at += 1;
                self.some_digits()?;
            }
            if let Some(b'e' | b'E') = self.bytes.get(self.at) {
                is_integer = false;
                self.at += 1;
                if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                    self.at += 1;
                }
                self.some_digits()?;
            }
        }
        Ok(Number { text: self.slice(start, self.at), is_integer, offset: start })
    }

    /// Reads a whole number that is not negative.
    pub(crate) fn unsigned(&mut self) -> Result<u64, JsonError> {
        super::element::Element::read(self)
    }

    /// Reads past one value of any kind, checking it as if it were used.
    pub(crate) fn skip(&mut self) -> Result<(), JsonError> {
        match self.peek()? {
            Kind::Null => self.null(),
            Kind::Bool => self.bool().map(drop),
            Kind::Number => self.number("a number").map(drop),
            Kind::String => self.string().map(drop),
            Kind::Array => self.array(|reader, _| reader.skip()).map(drop),
            Kind::Object => self.object(|reader, _| reader.skip()),
        }
    }

    /// Says what was expected and what stands there instead.
    #[cold]
    pub(crate) fn unexpected(&self, expected: &str) -> JsonError {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = match rest.chars().next() {
            None => "the end of the text".to_owned(),
            Some('{') => "an object".to_owned(),
            Some('[') => "an array".to_owned(),
            Some('"') => "a string".to_owned(),
            Some('0'..='9' | '-' | 'N' | 'I' | 't' | 'f' | 'n') => {
                let end = rest.find([',', ']', '}', ':', ' ', '\n', '\r', '\t']);
                excerpt(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default())
            }
            Some(character) => format!("{character:?}"),
        };
        JsonError::new(self.at, format!("expected {expected}, found {found}"))
    }

    /// Skips white space and shows the byte after it.
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                byte => return byte.copied(),
            }
        }
    }

    fn enter(&mut self, opening: u8, expected: &str) -> Result<(), JsonError> {
        if self.next_byte() != Some(opening) {
            return Err(self.unexpected(expected));
        }
        if self.depth == MAX_DEPTH {
            let problem = format!("arrays and objects are nested more than {MAX_DEPTH} deep");
            return Err(JsonError::new(self.at, problem));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// Both ends are places where the reader stood, so they are character boundaries.
    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn literal(&mut self, literal: &str) -> bool {
        let found =
            self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(literal.as_bytes()));
        if found {
            self.at += literal.len();
        }
        found
    }

    #[inline]
    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.unexpected("a digit"));
        }
        self.digits();
        Ok(())
    }

    fn run_of_plain_characters(&mut self) {
        while self
            .bytes
            .get(self.at)
            .is_some_and(|byte| *byte >= b' ' && !matches!(byte, b'"' | b'\\'))
        {
            self.at += 1;
        }
    }

    /// Reads an escape; the reader stands on its backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let Some(letter) = self.bytes.get(self.at) else {
            return Err(JsonError::new(start, "the string does not end"));
        };
        self.at += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(start),
            _ => {
                return Err(JsonError::new(
                    start,
                    "expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX",
                ));
            }
        })
    }

    /// Reads what follows `\u`: four hexadecimal digits, or a surrogate pair of two such escapes.
    fn unicode_escape(&mut self, start: usize) -> Result<char, JsonError> {
        let lone = || JsonError::new(start, "half of a surrogate pair stands alone in a string");
        let first = self.four_digits(start)?;
        let code = match first {
            0xD800..=0xDBFF => {
                if !self.literal("\\u") {
                    return Err(lone());
                }
                let second = self.four_digits(start)?;
                let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400).ok_or_else(lone)?;
                0x10000 + ((first - 0xD800) << 10) + low
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(lone)
    }

    fn four_digits(&mut self, start: usize) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at.saturating_add(4)).unwrap_or_default();
        if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(JsonError::new(start, "expected four hexadecimal digits after \\u"));
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|error| JsonError::new(start, error.to_string()))
    }
}

/// The keys of one object: in a list while they are few, so that an object with ten thousand keys
/// does not cost their square.
#[derive(Default)]
struct Keys<'a> {
    few: SmallVec<[Cow<'a, str>; 8]>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    fn contains(&self, key: &str) -> bool {
        self.few.iter().any(|known| known == key)
            || (!self.many.is_empty() && self.many.contains(key))
    }

    fn insert(&mut self, key: Cow<'a, str>) {
        if self.few.len() < FEW_KEYS {
            self.few.push(key);
        } else {
            self.many.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::*;

    fn parse(bytes: &[u8]) -> Result<(), JsonError> {
        let mut reader = Reader::new(bytes)?;
        reader.skip()?;
        reader.finish()
    }

    #[test]
    fn accepts() {
        for text in [
            "null",
            " true ",
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "-0",
            "1.5e-7",
            "1E+5",
            "NaN",
            "-NaN",
            "Infinity",
            "-Infinity",
            "Inf",
            "[1,\n2\t, -3]\r",
            r#"{"a":{"b":[{}, [], "\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"]},"":0}"#,
            "\"é\u{7f}\"",
        ] {
            parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn refuses() {
        for (text, says) in [
            ("", "expected a value, found the end of the text at byte 0"),
            ("{", "expected a key in quotes, found the end of the text at byte 1"),
            ("[1,]", "[1]: expected a value, found ']' at byte 3"),
            ("[1 2]", "expected `,` or `]`, found 2 at byte 3"),
            ("[01]", "must not start with 0 at byte 1"),
            ("[1.]", "expected a digit, found ']' at byte 3"),
            ("[.5]", "expected a value, found '.'"),
            ("[+1]", "expected a value, found '+'"),
            ("[-]", "expected a number, found -"),
            ("[1e]", "expected a digit"),
            ("[Nan]", "expected a number, found Nan"),
            ("[tru]", "expected true or false, found tru"),
            ("{a:1}", "expected a key in quotes"),
            (r#"{"a" 1}"#, "expected `:`, found 1"),
            (r#"{"a":1,}"#, "expected a key in quotes, found '}'"),
            (r#"{"a":1,"b":2,"a":3}"#, "the key 'a' is given twice at byte 13"),
            (r#"{"a":[0,{"b":x}]}"#, "a[1].b: expected a value, found 'x' at byte 13"),
            ("[]x", "expected nothing after the value, found 'x' at byte 2"),
            ("\"a", "the string does not end at byte 0"),
            ("\"a\\", "the string does not end"),
            ("\"\n\"", "control character in a string must be escaped at byte 1"),
            (r#""\x""#, "expected one of"),
            (r#""\u12g4""#, "four hexadecimal digits"),
            (r#""\u12"#, "four hexadecimal digits"),
            (r#""\ud800""#, "surrogate"),
            (r#""\udc00""#, "surrogate"),
            (r#""\ud800\u0041""#, "surrogate"),
            (r#""\ud800\ud800""#, "surrogate"),
        ] {
            let error = parse(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let error = parse(b"{\"a\":\"\xff\"}").expect_err("not UTF-8").to_string();
        assert_eq!(error, "the text is not valid UTF-8 at byte 6");
    }

    #[test]
    fn no_number_becomes_infinite() {
        for text in ["-2.5e311", "1e999", &"9".repeat(400)] {
            let error = Value::read(&mut Reader::new(text.as_bytes()).unwrap()).expect_err(text);
            assert!(error.to_string().contains("beyond"), "{error}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        parse(nested(100).as_bytes()).expect("100 deep is allowed");
        let error = parse(nested(101).as_bytes()).expect_err("too deep").to_string();
        assert!(error.contains("more than 100 deep at byte 100"), "{error}");
        parse(&vec![b'['; 1 << 20]).expect_err("too deep");
    }

    #[test]
    fn many_keys_are_told_apart() {
        let members: Vec<String> = (0..1000).map(|index| format!("\"k{index}\":0")).collect();
        parse(format!("{{{}}}", members.join(",")).as_bytes()).expect("all differ");
        for twice in ["k3", "k900"] {
            let text = format!("{{{},\"{twice}\":0}}", members.join(","));
            let error = parse(text.as_bytes()).expect_err(twice).to_string();
            assert!(error.contains(twice), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_parse_or_fail_without_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_text_of_json_tokens_agrees_with_serde_json(
            tokens in proptest::collection::vec(
                proptest::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u00e9\\n\"", "1", "-2.5e3", "0", "true",
                    "null", " ",
                ]),
                0..12,
            )
        ) {
            let text = tokens.concat();
            // serde_json's tree keeps the last of two equal keys; this reader refuses them.
            let ours = Reader::new(text.as_bytes()).and_then(|mut reader| {
                let value = Value::read(&mut reader)?;
                reader.finish().map(|()| value)
            });
            match (ours, serde_json::from_str::<serde_json::Value>(&text)) {
                (Ok(ours), Ok(theirs)) => proptest::prop_assert_eq!(ours.to_serde(), theirs),
                (Err(_), Err(_)) => {}
                (Err(error), Ok(_)) => proptest::prop_assert!(error.to_string().contains("twice")),
                (Ok(_), Err(error)) => proptest::prop_assert!(false, "{}: {}", text, error),
            }
        }
    }
}
