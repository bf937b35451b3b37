//! Writes compact JSON, with the commas where they belong.

/// Writes one JSON text. The caller says what comes next and closes what it opened.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
    /// Whether the next value or key needs a comma in front.
    comma: bool,
}

impl Writer {
    /// A writer that has room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), comma: false }
    }

    /// The text.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Opens an object.
    #[inline]
    pub(crate) fn begin_object(&mut self) {
        self.open(b'{');
    }

    /// Closes an object.
    #[inline]
    pub(crate) fn end_object(&mut self) {
        self.close(b'}');
    }

    /// Opens an array.
    #[inline]
    pub(crate) fn begin_array(&mut self) {
        self.open(b'[');
    }

    /// Closes an array.
    #[inline]
    pub(crate) fn end_array(&mut self) {
        self.close(b']');
    }

    /// Writes a key; its value comes next.
    #[inline]
    pub(crate) fn key(&mut self, key: &str) {
        self.string(key);
        self.out.push(b':');
        self.comma = false;
    }

    /// Writes a string.
    pub(crate) fn string(&mut self, text: &str) {
        self.separate();
        self.out.push(b'"');
        let mut plain_from = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(text.as_bytes().get(plain_from..at).unwrap_or_default());
            self.escape(byte);
            plain_from = at.saturating_add(1);
        }
        self.out.extend_from_slice(text.as_bytes().get(plain_from..).unwrap_or_default());
        self.out.push(b'"');
        self.comma = true;
    }

    /// Writes a whole number of any type.
    #[inline]
    pub(crate) fn integer(&mut self, value: impl itoa::Integer) {
        self.token(itoa::Buffer::new().format(value));
    }

    /// Writes a whole number as a string, which is how versions are written.
    pub(crate) fn digits_in_quotes(&mut self, value: u64) {
        self.string(itoa::Buffer::new().format(value));
    }

    /// Writes the shortest text that reads back to the same `f32`, always as a floating-point
    /// number: `1.0`, not `1`.
    #[inline]
    pub(crate) fn f32(&mut self, value: f32) {
        if value.is_finite() {
            self.token(zmij::Buffer::new().format_finite(value));
        } else {
            self.not_finite(value.into());
        }
    }

    /// Writes the shortest text that reads back to the same `f64`, always as a floating-point
    /// number.
    #[inline]
    pub(crate) fn f64(&mut self, value: f64) {
        if value.is_finite() {
            self.token(zmij::Buffer::new().format_finite(value));
        } else {
            self.not_finite(value);
        }
    }

    /// Writes `true` or `false`.
    #[inline]
    pub(crate) fn bool(&mut self, value: bool) {
        self.token(if value { "true" } else { "false" });
    }

    #[inline]
    fn token(&mut self, text: &str) {
        self.separate();
        self.out.extend_from_slice(text.as_bytes());
        self.comma = true;
    }

    #[cold]
    fn not_finite(&mut self, value: f64) {
        self.token(match value {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        });
    }

    #[inline]
    fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.comma = false;
    }

    #[inline]
    fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.comma = true;
    }

    #[inline]
    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
    }

    #[cold]
    fn escape(&mut self, byte: u8) {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        match byte {
            b'"' => self.out.extend_from_slice(b"\\\""),
            b'\\' => self.out.extend_from_slice(b"\\\\"),
            b'\n' => self.out.extend_from_slice(b"\\n"),
            b'\r' => self.out.extend_from_slice(b"\\r"),
            b'\t' => self.out.extend_from_slice(b"\\t"),
            _ => self.out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                digit(byte >> 4),
                digit(byte & 15),
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let mut writer = Writer::default();
        writer.begin_object();
        writer.key("a");
        writer.begin_array();
        writer.integer(-1);
        writer.integer(u64::MAX);
        writer.f32(0.1);
        writer.f32(1.0);
        writer.f32(1e20);
        writer.f64(-0.0);
        writer.f64(f64::NAN);
        writer.f32(f32::NEG_INFINITY);
        writer.bool(true);
        writer.begin_object();
        writer.end_object();
        writer.begin_array();
        writer.end_array();
        writer.end_array();
        writer.key("b\n");
        writer.string("é\"\\\u{1}\t/");
        writer.end_object();
        let text = String::from_utf8(writer.finish()).expect("is text");
        let expected = concat!(
            r#"{"a":[-1,18446744073709551615,0.1,1.0,1e+20,-0.0,NaN,-Infinity,true,{},[]],"#,
            r#""b\n":"é\"\\\u0001\t/"}"#
        );
        assert_eq!(text, expected);
    }
}
