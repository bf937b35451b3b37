//! The member `model` of a JSON object, as OpenAI's protocol has it.

use super::Peek;

/// Looks for the top-level member `model`; `whole` says that nothing follows `body`.
///
/// It reads tokens only as far as it must and checks nothing else: the replica parses the body.
pub(crate) fn model_name(body: &[u8], whole: bool) -> Peek {
    let mut scan = Scan { rest: body };
    match scan.object() {
        Err(Stop::Cut) if !whole => Peek::NeedMore,
        Err(Stop::Cut | Stop::Broken) => Peek::Broken,
        Ok(found) => found,
    }
}

/// Why a scan stopped before an answer.
enum Stop {
    Cut,
    Broken,
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn object(&mut self) -> Result<Peek, Stop> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return Ok(Peek::Missing);
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            if text(key).as_deref() == Some("model") {
                return Ok(match self.peek()? {
                    b'"' => text(self.string()?).map_or(Peek::Broken, Peek::Found),
                    _ => Peek::Missing,
                });
            }
            self.value()?;
            match self.token()? {
                b',' => {}
                b'}' => return Ok(Peek::Missing),
                _ => return Err(Stop::Broken),
            }
        }
    }

    /// The next byte that is not white space, left in place.
    fn peek(&mut self) -> Result<u8, Stop> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied().ok_or(Stop::Cut)
    }

    fn token(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.rest = self.rest.get(1..).unwrap_or_default();
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.token()? == byte { Ok(()) } else { Err(Stop::Broken) }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a [u8], Stop> {
        if self.peek()? != b'"' {
            return Err(Stop::Broken);
        }
        let mut escaped = false;
        for (index, byte) in self.rest.iter().enumerate().skip(1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    let (string, rest) = self.rest.split_at(index + 1);
                    self.rest = rest;
                    return Ok(string);
                }
                _ => {}
            }
        }
        Err(Stop::Cut)
    }

    /// Skips one value. Depth is a number, not a call stack, so nesting costs nothing.
    fn value(&mut self) -> Result<(), Stop> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    self.token()?;
                    depth += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    self.token()?;
                    depth -= 1;
                }
                b',' | b':' if depth > 0 => {
                    self.token()?;
                    continue;
                }
                b'}' | b']' | b',' | b':' => return Err(Stop::Broken),
                _ => {
                    let end = |byte: &u8| b",:]}{[\" \t\r\n".contains(byte);
                    let length = self.rest.iter().position(end).ok_or(Stop::Cut)?;
                    self.rest = self.rest.get(length..).unwrap_or_default();
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

fn text(quoted: &[u8]) -> Option<String> {
    serde_json::from_slice(quoted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(body: &str, whole: bool, expected: Peek) {
        assert_eq!(model_name(body.as_bytes(), whole), expected, "{body}");
    }

    #[test]
    fn table() {
        let found = |name: &str| Peek::Found(name.to_owned());
        check(r#"{"model":"a"}"#, true, found("a"));
        check(r#" { "x" : [1, {"model": 2}], "model" : "b\u00e9" , "#, false, found("bé"));
        check(r#"{"messages":[{"content":"say \"model\":\"no\""}],"model":"c"}"#, true, found("c"));
        check(r#"{"a":-1.5e3,"b":null,"model":"d"}"#, true, found("d"));
        check(r#"{"\u006dodel":"e"}"#, true, found("e"));
        check("{}", true, Peek::Missing);
        check(r#"{"x":1}"#, true, Peek::Missing);
        check(r#"{"model":7}"#, true, Peek::Missing);
        check(r#"{"model":"a"#, false, Peek::NeedMore);
        check(r#"{"x":[[[["#, false, Peek::NeedMore);
        check(r#"{"x":[[[["#, true, Peek::Broken);
        check("", false, Peek::NeedMore);
        check("", true, Peek::Broken);
        check("[1]", true, Peek::Broken);
        check(r#"{"x":}"#, true, Peek::Broken);
        check("{1:2}", true, Peek::Broken);
    }

    #[test]
    fn deep_nesting_is_skipped() {
        let deep = format!(r#"{{"x":{}{},"model":"a"}}"#, "[".repeat(50_000), "]".repeat(50_000));
        check(&deep, true, Peek::Found("a".to_owned()));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            model_name(&body, true);
            model_name(&body, false);
        }

        #[test]
        fn any_cut_needs_more(cut in 1usize..40) {
            let body = br#"{"x":{"y":["z",1]},"t":0.5,"model":"name"}"#;
            let cut = cut.min(body.len() - 3);
            prop_assert_eq!(model_name(&body[..cut], false), Peek::NeedMore);
        }
    }
}
