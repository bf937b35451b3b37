//! Where a body ends (RFC 9112 §6 and §7).

use bytes::{Buf, BytesMut};

/// How a message says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Empty,
    Length(u64),
    Chunked,
    /// By the end of the connection; answers only.
    UntilClose,
}

/// Finds the body's bytes in what a connection brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoder {
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    /// Bytes of trailers seen so far.
    Trailers(usize),
    UntilClose,
    End,
}

/// What the decoder says about the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes at the front are the body's; the caller takes them off.
    Data(usize),
    NeedMore,
    End,
}

/// A body that breaks the rules; the connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadBody(pub(crate) &'static str);

/// A chunk's size line, its extensions included. Nobody uses them; long ones are an attack.
const MAX_SIZE_LINE: usize = 256;
const MAX_TRAILERS: usize = 16 << 10;

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Whether the end of the connection is a regular end of the body.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Looks at the front of `buf` and takes framing off it. Trailers are read and dropped, as
    /// RFC 9110 §6.5.1 allows.
    pub(crate) fn step(&mut self, buf: &mut BytesMut) -> Result<Step, BadBody> {
        loop {
            match &mut self.state {
                State::End => return Ok(Step::End),
                _ if buf.is_empty() => return Ok(Step::NeedMore),
                State::UntilClose => return Ok(Step::Data(buf.len())),
                State::Length(left) | State::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                    *left -= here as u64;
                    if *left == 0 {
                        let chunk = matches!(self.state, State::Chunk(_));
                        self.state = if chunk { State::ChunkEnd } else { State::End };
                    }
                    return Ok(Step::Data(here));
                }
                State::ChunkEnd => {
                    match buf.get(..2) {
                        Some(b"\r\n") => buf.advance(2),
                        None if buf.starts_with(b"\r") => return Ok(Step::NeedMore),
                        _ => return Err(BadBody("a chunk does not end where it said")),
                    }
                    self.state = State::ChunkSize;
                }
                State::ChunkSize => {
                    let Some(line) = line(buf, MAX_SIZE_LINE)? else { return Ok(Step::NeedMore) };
                    let size = chunk_size(buf.get(..line).unwrap_or_default())?;
                    buf.advance(line + 2);
                    self.state = if size == 0 { State::Trailers(0) } else { State::Chunk(size) };
                }
                State::Trailers(seen) => {
                    let Some(line) = line(buf, MAX_TRAILERS)? else { return Ok(Step::NeedMore) };
                    *seen += line;
                    if *seen > MAX_TRAILERS {
                        return Err(BadBody("trailers are too long"));
                    }
                    buf.advance(line + 2);
                    if line == 0 {
                        self.state = State::End;
                    }
                }
            }
        }
    }
}

/// Length of the first line without its CRLF, once it is whole. A bare LF is refused: proxies that
/// take it for an end of line and proxies that do not can be played off against each other.
fn line(buf: &[u8], max: usize) -> Result<Option<usize>, BadBody> {
    let Some(feed) = buf.iter().take(max + 2).position(|byte| *byte == b'\n') else {
        return if buf.len() > max + 1 { Err(BadBody("a line is too long")) } else { Ok(None) };
    };
    match feed.checked_sub(1) {
        Some(end) if buf.get(end) == Some(&b'\r') => Ok(Some(end)),
        _ => Err(BadBody("a line ends with a bare line feed")),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, BadBody> {
    let bad = BadBody("a chunk size is no hexadecimal number");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at_checked(digits).ok_or(bad)?;
    if digits.is_empty() || digits.len() > 16 {
        return Err(bad);
    }
    // Only an extension may follow, with white space before it.
    if !matches!(extension.trim_ascii_start().first(), None | Some(b';')) {
        return Err(bad);
    }
    if extension.iter().any(|byte| matches!(byte, b'\r' | 0)) {
        return Err(bad);
    }
    let text = std::str::from_utf8(digits).map_err(|_| bad)?;
    u64::from_str_radix(text, 16).map_err(|_| bad)
}

pub(crate) fn write_chunk(out: &mut BytesMut, data: &[u8]) {
    use std::fmt::Write;
    if data.is_empty() {
        return; // An empty chunk would end the body.
    }
    // Writing to a BytesMut fails only beyond 2^64 bytes.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_last_chunk(out: &mut BytesMut) {
    out.extend_from_slice(b"0\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body and what is left of the input, when it comes in pieces of `piece` bytes.
    fn decode(framing: Framing, input: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), BadBody> {
        let mut decoder = Decoder::new(framing);
        let (mut buf, mut body) = (BytesMut::new(), Vec::new());
        let mut pieces = input.chunks(piece.max(1));
        loop {
            match decoder.step(&mut buf)? {
                Step::Data(length) => body.extend_from_slice(&buf.split_to(length)),
                Step::End => break,
                Step::NeedMore => match pieces.next() {
                    Some(piece) => buf.extend_from_slice(piece),
                    None if decoder.ends_with_connection() => break,
                    None => return Err(BadBody("cut")),
                },
            }
        }
        let rest = pieces.flatten().copied();
        Ok((body, buf.iter().copied().chain(rest).collect()))
    }

    #[track_caller]
    fn check(framing: Framing, input: &str, expected: Option<(&str, &str)>) {
        for piece in [1, 2, 3, 1_000] {
            let got = decode(framing, input.as_bytes(), piece).ok();
            let expected = expected.map(|(a, b)| (a.as_bytes().to_vec(), b.as_bytes().to_vec()));
            assert_eq!(got, expected, "{input:?} by {piece}");
        }
    }

    #[test]
    fn table() {
        check(Framing::Empty, "GET", Some(("", "GET")));
        check(Framing::Length(3), "abcGET", Some(("abc", "GET")));
        check(Framing::Length(4), "abc", None);
        check(Framing::UntilClose, "abc", Some(("abc", "")));
        let chunked = Framing::Chunked;
        check(chunked, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", Some(("abcde", "GET")));
        check(
            chunked,
            "A;x=y\r\n0123456789\r\n0\r\nt: 1\r\nu: 2\r\n\r\n",
            Some(("0123456789", "")),
        );
        check(chunked, "0\r\n\r\n", Some(("", "")));
    }

    #[test]
    fn smugglers_are_refused() {
        for input in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "-1\r\na\r\n",
            "+1\r\na\r\n0\r\n\r\n",
            "0x1\r\na\r\n0\r\n\r\n",
            " 1\r\na\r\n0\r\n\r\n",
            "1_0\r\na\r\n",
            "\r\n\r\n",
            "10000000000000000\r\n",
            "1;a\rb\r\nx\r\n0\r\n\r\n",
            "1 x\r\na\r\n0\r\n\r\n",
            "0\r\n\n",
        ] {
            check(Framing::Chunked, input, None);
        }
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(300));
        check(Framing::Chunked, &long, None);
        let long = format!("0\r\n{}\r\n", "t: 1\r\n".repeat(5_000));
        check(Framing::Chunked, &long, None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..8),
            piece in 1usize..60,
        ) {
            let mut out = BytesMut::new();
            for part in &parts {
                write_chunk(&mut out, part);
            }
            write_last_chunk(&mut out);
            out.extend_from_slice(b"next");
            let read = decode(Framing::Chunked, &out, piece).unwrap();
            prop_assert_eq!(read, (parts.concat(), b"next".to_vec()));
        }

        #[test]
        fn bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(Framing::Chunked, &input, 7);
        }
    }
}
