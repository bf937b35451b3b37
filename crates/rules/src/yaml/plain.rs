//! Reads the plain part of YAML that most manifests are written in, several times faster than the
//! reader of all of YAML.
//!
//! It knows block mappings and lists, texts of one line, flow collections of one line, and literal
//! blocks, all in ASCII. At anything else, and at anything that may be wrong, it gives up, and the
//! reader of all of YAML reads the document from its start: what it makes of a document, this one
//! must make too, to the byte. Tests compare the two.

use std::borrow::Cow;

use granit_parser::ScalarStyle;

use super::build::Builder;
use super::tree::Span;

/// Collections in one another; deeper documents are left to the other reader, which counts too.
const DEEPEST: usize = 64;
/// Keys that YAML takes without a `?` are shorter than 1,024 characters.
const LONGEST_KEY: usize = 256;

/// What a document is not when [`read`] gives up.
pub(super) struct NotPlain;

type Plain<T> = Result<T, NotPlain>;

/// Reads a document into a builder that has read nothing yet.
pub(super) fn read(builder: &mut Builder<'_, '_>) -> Plain<()> {
    let bytes = builder.document().as_bytes();
    if !bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return Err(NotPlain);
    }
    let mut reader = Reader { bytes, at: 0, column: None, builder };
    if bytes.starts_with(b"---") {
        reader.at = 3;
        reader.end_line(None)?;
    } else {
        reader.next_line();
    }
    let Some(column) = reader.column else { return Err(NotPlain) };
    if reader.is_dash() {
        reader.list(column, false, 0)?;
    } else {
        reader.mapping(column, 0)?;
    }
    if reader.column.is_some() { Err(NotPlain) } else { Ok(()) }
}

struct Reader<'r, 'f, 't> {
    bytes: &'t [u8],
    /// Where the next byte stands: after a line, the first of the next one that says something.
    at: usize,
    /// The column of that byte; `None` at the end.
    column: Option<usize>,
    builder: &'r mut Builder<'f, 't>,
}

impl Reader<'_, '_, '_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// Whether a word ends before this byte: a blank, or the end of the line.
    fn is_gap(&self, at: usize) -> bool {
        matches!(self.byte(at), None | Some(b' ' | b'\n'))
    }

    fn is_dash(&self) -> bool {
        self.byte(self.at) == Some(b'-') && self.is_gap(self.at + 1)
    }

    fn skip_blanks(&mut self) {
        while self.byte(self.at) == Some(b' ') {
            self.at += 1;
        }
    }

    /// Goes from the start of a line to the first byte that says something.
    fn next_line(&mut self) {
        loop {
            let start = self.at;
            self.skip_blanks();
            match self.byte(self.at) {
                None => {
                    self.column = None;
                    return;
                }
                Some(b'\n') => self.at += 1,
                Some(b'#') => self.skip_line(),
                Some(_) => {
                    self.column = Some(self.at - start);
                    return;
                }
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at =
            memchr::memchr(b'\n', rest).map_or(self.bytes.len(), |length| self.at + length + 1);
    }

    /// Whether nothing but a comment is left of a line, from a byte behind a word on.
    fn is_line_over(&mut self) -> Plain<bool> {
        let before = self.at;
        self.skip_blanks();
        match self.byte(self.at) {
            None | Some(b'\n') => Ok(true),
            Some(b'#') if self.at > before => Ok(true),
            Some(b'#') => Err(NotPlain),
            Some(_) => Ok(false),
        }
    }

    /// Goes behind a value to the next line that says something. One that stands deeper than the
    /// value's owner would go on with it.
    fn end_line(&mut self, owner: Option<usize>) -> Plain<()> {
        if !self.is_line_over()? {
            return Err(NotPlain);
        }
        self.skip_line();
        self.next_line();
        match (owner, self.column) {
            (Some(owner), Some(column)) if column > owner => Err(NotPlain),
            _ => Ok(()),
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        self.builder.span_in_document(start, end)
    }

    fn open(&mut self, mapping: bool, start: usize, end: usize) -> Plain<()> {
        let span = self.span(start, end);
        self.builder.open(mapping, span, 0).map_err(|_| NotPlain)
    }

    fn close(&mut self, end: usize) -> Plain<()> {
        let end = self.span(end, end).end;
        self.builder.end(end).map_err(|_| NotPlain)
    }

    fn scalar(&mut self, text: &str, start: usize, end: usize, style: ScalarStyle) -> Plain<()> {
        let span = self.span(start, end);
        let plain = style == ScalarStyle::Plain;
        self.builder.scalar(Cow::Borrowed(text), span, style, plain, 0).map_err(|_| NotPlain)
    }

    fn text(&self, start: usize, end: usize) -> &str {
        self.bytes.get(start..end).and_then(|it| std::str::from_utf8(it).ok()).unwrap_or_default()
    }

    /// A text that stands in the document as it is.
    fn copied(&mut self, start: usize, end: usize, style: ScalarStyle) -> Plain<()> {
        let quote = usize::from(style != ScalarStyle::Plain);
        let span = self.span(start, end);
        let text = self.span(start + quote, end - quote);
        self.builder
            .scalar_of_document(text, span, style == ScalarStyle::Plain)
            .map_err(|_| NotPlain)
    }

    /// Nothing, where a value could stand.
    fn nothing(&mut self, at: usize) -> Plain<()> {
        self.scalar("~", at, at, ScalarStyle::Plain)
    }

    /// Where a key ends that starts here and is followed by a colon.
    fn key_end(&self) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?;
        let first = *rest.first()?;
        if !(first.is_ascii_alphanumeric() || matches!(first, b'_' | b'.' | b'/')) {
            return None;
        }
        let length = rest.iter().take(LONGEST_KEY).position(|byte| {
            !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-'))
        })?;
        let end = self.at + length;
        (self.byte(end) == Some(b':') && self.is_gap(end + 1)).then_some(end)
    }

    /// A mapping whose first key starts here.
    fn mapping(&mut self, column: usize, depth: usize) -> Plain<()> {
        if depth > DEEPEST {
            return Err(NotPlain);
        }
        self.open(true, self.at, self.at)?;
        loop {
            let end = self.key_end().ok_or(NotPlain)?;
            self.copied(self.at, end, ScalarStyle::Plain)?;
            self.at = end + 1;
            self.value(column, true, depth)?;
            match self.column {
                Some(next) if next == column && !self.is_dash() => {}
                Some(next) if next >= column => return Err(NotPlain),
                _ => break,
            }
        }
        self.close(self.at)
    }

    /// A list whose first dash stands here. A list that is not deeper than its key has another
    /// start to the other reader: its first item's.
    fn list(&mut self, column: usize, is_beside_key: bool, depth: usize) -> Plain<()> {
        if depth > DEEPEST {
            return Err(NotPlain);
        }
        let mut start = self.at;
        if is_beside_key {
            let rest = self.bytes.get(start + 1..).unwrap_or_default();
            start += 1 + rest.iter().position(|byte| *byte != b' ').ok_or(NotPlain)?;
            if matches!(self.byte(start), Some(b'\n' | b'#')) {
                return Err(NotPlain);
            }
        }
        self.open(false, start, start)?;
        loop {
            let behind = self.at + 1;
            self.at = behind;
            self.skip_blanks();
            let inner = column + (self.at - behind) + 1;
            if self.is_dash() {
                return Err(NotPlain);
            }
            if self.key_end().is_some() {
                self.mapping(inner, depth + 1)?;
            } else {
                self.at = behind;
                self.value(column, false, depth)?;
            }
            match self.column {
                Some(next) if next == column && self.is_dash() => {}
                Some(next) if next > column => return Err(NotPlain),
                _ => break,
            }
        }
        self.close(self.at)
    }

    /// What stands behind a colon or a dash.
    fn value(&mut self, owner: usize, is_of_key: bool, depth: usize) -> Plain<()> {
        let behind = self.at;
        if self.is_line_over()? {
            self.skip_line();
            self.next_line();
            return match self.column {
                Some(column) if column > owner && self.is_dash() => {
                    self.list(column, false, depth + 1)
                }
                Some(column) if column > owner => self.mapping(column, depth + 1),
                Some(column) if column == owner && is_of_key && self.is_dash() => {
                    self.list(column, true, depth + 1)
                }
                _ if is_of_key => self.nothing(behind - 1),
                _ if matches!(self.byte(behind), None | Some(b'\n')) => self.nothing(behind),
                _ => Err(NotPlain),
            };
        }
        match self.byte(self.at) {
            Some(b'|') => return self.literal(owner),
            Some(b'{' | b'[') => self.flow(depth + 1)?,
            Some(b'"' | b'\'') => self.quoted()?,
            _ => self.plain(false)?,
        }
        self.end_line(Some(owner))
    }

    /// A text in quotes that stands in one line and has no escapes.
    fn quoted(&mut self) -> Plain<()> {
        let start = self.at;
        let quote = self.byte(start).ok_or(NotPlain)?;
        let rest = self.bytes.get(start + 1..).unwrap_or_default();
        let length =
            rest.iter().position(|byte| *byte == quote || *byte == b'\n').ok_or(NotPlain)?;
        let text = rest.get(..length).unwrap_or_default();
        let is_over = rest.get(length) == Some(&quote);
        let (style, is_escaped) = match quote {
            b'"' => (ScalarStyle::DoubleQuoted, text.contains(&b'\\')),
            _ => (ScalarStyle::SingleQuoted, rest.get(length + 1) == Some(&b'\'')),
        };
        if !is_over || is_escaped {
            return Err(NotPlain);
        }
        self.at = start + length + 2;
        self.copied(start, self.at, style)
    }

    /// A text without quotes, up to the end of the line, or of the item in a flow collection.
    fn plain(&mut self, is_in_flow: bool) -> Plain<()> {
        let start = self.at;
        let may_start = match self.byte(start) {
            Some(b'-') => self.byte(start + 1).is_some_and(|next| {
                next.is_ascii_alphanumeric() || matches!(next, b'-' | b'.' | b'_' | b'/')
            }),
            Some(byte) => {
                byte.is_ascii_alphanumeric()
                    || matches!(
                        byte,
                        b'_' | b'.' | b'/' | b'$' | b'+' | b'~' | b'(' | b'<' | b'^' | b'='
                    )
            }
            None => false,
        };
        if !may_start {
            return Err(NotPlain);
        }
        let mut end = start;
        loop {
            match self.byte(self.at) {
                None | Some(b'\n') => break,
                Some(b',' | b'[' | b']' | b'{' | b'}') if is_in_flow => break,
                Some(b':') if is_in_flow || self.is_gap(self.at + 1) => return Err(NotPlain),
                Some(b'#') if is_in_flow => return Err(NotPlain),
                Some(b'#') if self.byte(self.at - 1) == Some(b' ') => break,
                Some(b' ') => self.at += 1,
                Some(_) => {
                    self.at += 1;
                    end = self.at;
                }
            }
        }
        self.at = end;
        self.copied(start, end, ScalarStyle::Plain)
    }

    /// A flow collection that ends in its line.
    fn flow(&mut self, depth: usize) -> Plain<()> {
        if depth > DEEPEST {
            return Err(NotPlain);
        }
        let mapping = self.byte(self.at) == Some(b'{');
        let last = if mapping { b'}' } else { b']' };
        self.open(mapping, self.at, self.at + 1)?;
        self.at += 1;
        loop {
            self.skip_blanks();
            if self.byte(self.at) == Some(last) {
                break;
            }
            if mapping {
                if let Some(end) = self.key_end() {
                    self.copied(self.at, end, ScalarStyle::Plain)?;
                    self.at = end;
                } else if matches!(self.byte(self.at), Some(b'"' | b'\'')) {
                    self.quoted()?;
                }
                if self.byte(self.at) != Some(b':') || self.byte(self.at + 1) != Some(b' ') {
                    return Err(NotPlain);
                }
                self.at += 1;
                self.skip_blanks();
            }
            match self.byte(self.at) {
                Some(b'{' | b'[') => self.flow(depth + 1)?,
                Some(b'"' | b'\'') => self.quoted()?,
                _ => self.plain(true)?,
            }
            self.skip_blanks();
            match self.byte(self.at) {
                Some(b',') => self.at += 1,
                Some(byte) if byte == last => {}
                _ => return Err(NotPlain),
            }
        }
        self.at += 1;
        self.close(self.at)
    }

    /// A literal block: its lines without their indent, and one line end or none at its end.
    fn literal(&mut self, owner: usize) -> Plain<()> {
        self.at += 1;
        let is_stripped = self.byte(self.at) == Some(b'-');
        self.at += usize::from(is_stripped);
        if !self.is_line_over()? {
            return Err(NotPlain);
        }
        self.skip_line();
        let line_indent = |at: usize| {
            let rest = self.bytes.get(at..).unwrap_or_default();
            rest.iter().position(|byte| *byte != b' ').map(|indent| (indent, rest.get(indent)))
        };
        let Some((indent, Some(b'!'..=b'~'))) = line_indent(self.at) else { return Err(NotPlain) };
        if indent <= owner {
            return Err(NotPlain);
        }
        let start = self.at + indent;
        let mut text = String::new();
        let mut empty_lines = 0;
        while let Some((own, first)) = line_indent(self.at) {
            let end = self.at
                + memchr::memchr(b'\n', self.bytes.get(self.at..).unwrap_or_default())
                    .ok_or(NotPlain)?;
            if first == Some(&b'\n') {
                if own > indent {
                    return Err(NotPlain);
                }
                empty_lines += 1;
            } else if own < indent {
                if own > owner {
                    return Err(NotPlain);
                }
                break;
            } else {
                text.extend(std::iter::repeat_n('\n', std::mem::take(&mut empty_lines)));
                text.push_str(self.text(self.at + indent, end + 1));
            }
            self.at = end + 1;
        }
        if self.at < self.bytes.len() && line_indent(self.at).is_none() {
            // Blanks without a line end.
            return Err(NotPlain);
        }
        if is_stripped {
            text.pop();
        }
        let end = self.at + line_indent(self.at).map_or(0, |(indent, _)| indent);
        self.scalar(&text, start, end, ScalarStyle::Literal)?;
        self.next_line();
        match self.column {
            Some(column) if column > owner => Err(NotPlain),
            _ => Ok(()),
        }
    }
}
