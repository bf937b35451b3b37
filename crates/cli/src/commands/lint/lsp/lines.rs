//! Places in a text as the protocol counts them: lines and UTF-16 units, both from 0.

use lsp_types::{Position, Range, TextDocumentContentChangeEvent};

/// Where the lines of a text start. Lines end in `\n`, `\r\n` or `\r`.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let ends = bytes.iter().enumerate().filter(|&(at, &byte)| {
            byte == b'\n' || (byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        });
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The place of a byte; of one beyond the end, the end.
    pub(super) fn position(&self, byte: usize) -> Position {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let line = self.starts.partition_point(|&start| start <= byte).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or_default();
        let before = self.text.get(start..byte).unwrap_or_default();
        Position::new(line as u32, before.encode_utf16().count() as u32)
    }

    pub(super) fn range(&self, start: u32, end: u32) -> Range {
        Range::new(self.position(start as usize), self.position(end as usize))
    }

    /// The byte at a place. Beyond the end of a line it is that end, as the protocol says.
    pub(super) fn byte(&self, position: Position) -> usize {
        let line = position.line as usize;
        let Some(&start) = self.starts.get(line) else { return self.text.len() };
        let next = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        let line = self.text.get(start..next).unwrap_or_default();
        let content = line.trim_end_matches(['\n', '\r']);
        let mut units = 0;
        for (at, c) in content.char_indices() {
            if units >= position.character {
                return start + at;
            }
            units += c.len_utf16() as u32;
        }
        start + content.len()
    }
}

/// A text after changes, each of which is about the text that the one before it left.
pub(super) fn changed(text: &str, changes: Vec<TextDocumentContentChangeEvent>) -> String {
    let mut text = text.to_owned();
    for change in changes {
        let Some(range) = change.range else {
            text = change.text;
            continue;
        };
        let (start, end) = {
            let lines = Lines::new(&text);
            (lines.byte(range.start), lines.byte(range.end))
        };
        text.replace_range(start..end.max(start), &change.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, byte: usize, line: u32, character: u32) {
        let lines = Lines::new(text);
        let position = Position::new(line, character);
        assert_eq!(lines.position(byte), position, "place of byte {byte} of {text:?}");
        assert_eq!(lines.byte(position), byte, "byte at {position:?} of {text:?}");
    }

    #[test]
    fn columns_are_utf_16_units() {
        check("", 0, 0, 0);
        check("a: 1\nb: 2", 6, 1, 1);
        // é: 2 bytes, 1 unit. 🚂: 4 bytes, 2 units.
        check("é: 1", 3, 0, 2);
        check("🚂: 1", 4, 0, 2);
        check("a\r\nb\rc\nd", 3, 1, 0);
        check("a\r\nb\rc\nd", 5, 2, 0);
        check("a\r\nb\rc\nd", 8, 3, 1);
    }

    #[test]
    fn places_beyond_an_end_are_the_end() {
        let lines = Lines::new("ab\r\nc");
        assert_eq!(lines.byte(Position::new(0, 99)), 2);
        assert_eq!(lines.byte(Position::new(7, 0)), 5);
        assert_eq!(lines.position(99), Position::new(1, 1));
        // In the middle of a character: behind it.
        assert_eq!(Lines::new("🚂a").byte(Position::new(0, 1)), 4);
    }

    #[test]
    fn changes_follow_one_another() {
        let change = |range: Option<(u32, u32, u32, u32)>, text: &str| {
            let range =
                range.map(|(a, b, c, d)| Range::new(Position::new(a, b), Position::new(c, d)));
            TextDocumentContentChangeEvent { range, range_length: None, text: text.to_owned() }
        };
        let all = vec![
            change(Some((0, 2, 0, 3)), "🚂"),
            change(Some((0, 4, 0, 4)), "!\n"),
            change(Some((1, 0, 1, 0)), "b"),
        ];
        assert_eq!(changed("a 1", all), "a 🚂!\nb");
        assert_eq!(changed("a", vec![change(None, "b")]), "b");
        // Ends before it starts: an insertion.
        assert_eq!(changed("abc", vec![change(Some((0, 2, 0, 1)), "-")]), "ab-c");
    }
}
