//! Heads of requests and answers (RFC 9112 §2 to §6).

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::body::Framing;
use super::spare;

/// All lines of a head together.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    /// HTTP/1.0 knows no chunks.
    pub(crate) http_10: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
}

#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
}

/// A head that cannot be understood, or could be understood in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the head is longer than 64 KiB or has more than 128 headers")]
    TooLarge,
    #[error("the method is not supported")]
    Method,
}

use BadHead::Malformed;

/// Takes one request head off the front of `buf`, once it is whole.
pub(crate) fn read_request(buf: &mut BytesMut) -> Result<Option<RequestHead>, BadHead> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(buf, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if buf.len() <= MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
        Err(error) => return Err(Malformed(explain(error))),
    };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| Malformed("the method is no token"))?;
    if method == Method::CONNECT {
        return Err(BadHead::Method);
    }
    let http_10 = parsed.version == Some(0);
    let path = origin_form(parsed.path.unwrap_or_default())?;
    let path = range_of(buf, path.as_bytes());
    let ranges = ranges(buf, parsed.headers);
    let head = buf.split_to(length).freeze();
    let target = PathAndQuery::from_maybe_shared(head.slice(path))
        .map_err(|_| Malformed("the target is no path"))?;
    let headers = collect(&head, &ranges)?;
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && !http_10) {
        return Err(Malformed("there must be one Host header"));
    }
    let framing = match length_of(&headers)? {
        Some(Framing::Chunked) if http_10 => {
            return Err(Malformed("HTTP/1.0 has no Transfer-Encoding"));
        }
        Some(framing) => framing,
        None => Framing::Empty,
    };
    let expects_continue = !http_10
        && headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let keep_alive = keeps_alive(&headers, http_10);
    Ok(Some(RequestHead {
        method,
        target,
        http_10,
        headers,
        framing,
        keep_alive,
        expects_continue,
    }))
}

/// Takes one answer head off the front of `buf`, once it is whole. `to_head`: it answers a HEAD.
pub(crate) fn read_response(
    buf: &mut BytesMut,
    to_head: bool,
) -> Result<Option<ResponseHead>, BadHead> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, buf, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if buf.len() <= MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
        Err(error) => return Err(Malformed(explain(error))),
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default())
        .map_err(|_| Malformed("the status is no number from 100 to 999"))?;
    let http_10 = parsed.version == Some(0);
    let ranges = ranges(buf, parsed.headers);
    let head = buf.split_to(length).freeze();
    let headers = collect(&head, &ranges)?;
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let declared = length_of(&headers)?;
    let framing = match declared {
        _ if to_head || bodiless => Framing::Empty,
        Some(framing) => framing,
        None => Framing::UntilClose,
    };
    let keep_alive = keeps_alive(&headers, http_10) && framing != Framing::UntilClose;
    Ok(Some(ResponseHead { status, headers, framing, keep_alive }))
}

fn explain(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header name is no token, or a header is folded",
        httparse::Error::HeaderValue => "a header value has forbidden bytes",
        httparse::Error::NewLine => "a line does not end where it should",
        httparse::Error::Status => "the status line is malformed",
        httparse::Error::Token => "the request line is malformed",
        httparse::Error::Version => "the version is not HTTP/1.1 or HTTP/1.0",
        httparse::Error::TooManyHeaders => "there are too many headers",
    }
}

/// The path and query of `/path` or `http://host/path`.
fn origin_form(target: &str) -> Result<&str, BadHead> {
    if target.starts_with('/') {
        return Ok(target);
    }
    let (scheme, rest) = target.split_once("://").ok_or(Malformed("the target is no path"))?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Malformed("the target has a foreign scheme"));
    }
    let path = rest.find('/').and_then(|start| rest.get(start..));
    path.ok_or(Malformed("the target has no path"))
}

type Range = std::ops::Range<usize>;

/// Where in `buf` a part of it lies.
fn range_of(buf: &[u8], part: &[u8]) -> Range {
    let start = (part.as_ptr() as usize).saturating_sub(buf.as_ptr() as usize);
    start..start + part.len()
}

fn ranges(buf: &[u8], lines: &[httparse::Header<'_>]) -> smallvec::SmallVec<[(Range, Range); 16]> {
    lines
        .iter()
        .map(|line| (range_of(buf, line.name.as_bytes()), range_of(buf, line.value)))
        .collect()
}

/// Header values share the bytes of the head.
fn collect(head: &Bytes, ranges: &[(Range, Range)]) -> Result<HeaderMap, BadHead> {
    let mut headers = spare::take();
    headers.try_reserve(ranges.len() + 4).map_err(|_| BadHead::TooLarge)?;
    for (name, value) in ranges {
        let name = HeaderName::from_bytes(head.get(name.clone()).unwrap_or_default())
            .map_err(|_| Malformed("a header name is no token"))?;
        let value = HeaderValue::from_maybe_shared(head.slice(value.clone()))
            .map_err(|_| Malformed("a header value has forbidden bytes"))?;
        headers.try_append(name, value).map_err(|_| BadHead::TooLarge)?;
    }
    Ok(headers)
}

/// What the headers say about the body's length. Two answers to that are one too many.
fn length_of(headers: &HeaderMap) -> Result<Option<Framing>, BadHead> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Malformed("there is more than one Content-Length"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if codings.next().is_some() {
        return Err(Malformed("there is more than one Transfer-Encoding"));
    }
    match (length, coding) {
        (Some(_), Some(_)) => {
            Err(Malformed("Content-Length and Transfer-Encoding exclude each other"))
        }
        (None, None) => Ok(None),
        (None, Some(coding)) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Some(Framing::Chunked))
        }
        (None, Some(_)) => Err(Malformed("the only Transfer-Encoding is chunked")),
        (Some(length), None) => {
            let digits = length.as_bytes();
            let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
            match number {
                Some(length) if digits.iter().all(u8::is_ascii_digit) => {
                    Ok(Some(Framing::Length(length)))
                }
                _ => Err(Malformed("Content-Length is no number")),
            }
        }
    }
}

fn keeps_alive(headers: &HeaderMap, http_10: bool) -> bool {
    let says = |word: &str| {
        headers.get_all(CONNECTION).iter().any(|value| {
            let tokens = value.as_bytes().split(|byte| *byte == b',');
            tokens.into_iter().any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    if http_10 { says("keep-alive") && !says("close") } else { !says("close") }
}

/// Whether a header belongs to one connection only, or is written by the gateway itself.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::CONTENT_LENGTH
            | header::UPGRADE
            | header::TE
            | header::TRAILER
            | header::EXPECT
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Writes headers that concern both ends, and how the body ends. `declared` is a length that
/// stands although no body follows, as in an answer to HEAD.
pub(crate) fn write_headers(out: &mut BytesMut, headers: &HeaderMap, framing: Framing) {
    for (name, value) in headers {
        if is_hop_by_hop(name) {
            continue;
        }
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    match framing {
        Framing::Length(length) => {
            out.put_slice(b"content-length: ");
            write_decimal(out, length);
            out.put_slice(b"\r\n");
        }
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Empty | Framing::UntilClose => {}
    }
}

/// Formatting machinery costs more than all the rest of a small head.
fn write_decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.put_slice(digits.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Result<Option<RequestHead>, BadHead> {
        read_request(&mut BytesMut::from(text))
    }

    #[test]
    fn a_request_is_taken_off_the_buffer() {
        let mut buf = BytesMut::from(
            "POST /v2/models/m/infer?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET",
        );
        let head = read_request(&mut buf).unwrap().unwrap();
        assert_eq!(head.target.as_str(), "/v2/models/m/infer?x=1");
        assert_eq!((head.method, head.framing), (Method::POST, Framing::Length(3)));
        assert!(head.keep_alive && !head.expects_continue && !head.http_10);
        assert_eq!(&buf[..], b"abcGET");
    }

    #[test]
    fn a_part_of_a_head_waits() {
        let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..whole.len() {
            assert!(request(&whole[..cut]).unwrap().is_none(), "{cut}");
        }
        assert!(request(whole).unwrap().is_some());
    }

    #[test]
    fn targets() {
        let target = |text: &str| {
            let head = request(&format!("GET {text} HTTP/1.1\r\nHost: a\r\n\r\n"));
            head.ok().flatten().map(|head| head.target.to_string())
        };
        assert_eq!(target("/a%20b?c"), Some("/a%20b?c".to_owned()));
        assert_eq!(target("http://host:1/a?b"), Some("/a?b".to_owned()));
        assert_eq!(target("http://host"), None);
        assert_eq!(target("ftp://host/a"), None);
        assert_eq!(target("*"), None);
        assert_eq!(target("a"), None);
    }

    #[test]
    fn connections_are_kept_by_version_and_header() {
        let kept = |line: &str| request(line).unwrap().unwrap().keep_alive;
        assert!(kept("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!kept("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"));
        assert!(!kept("GET / HTTP/1.0\r\n\r\n"));
        assert!(kept("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for lines in [
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: -3\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length : 3\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n chunked\r\n",
            "X: a\r\n b\r\n",
            " X: a\r\n",
            "X: a\0b\r\n",
            "X y: a\r\n",
            "Host: b\r\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            assert!(matches!(request(&text), Err(Malformed(_))), "{lines:?}");
        }
        assert!(request("GET / HTTP/1.1\r\n\r\n").is_err(), "no host");
        assert!(request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert_eq!(request("CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err(), BadHead::Method);
        assert!(request("GET / HTTP/2.0\r\nHost: a\r\n\r\n").is_err());
    }

    #[test]
    fn endless_heads_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(request(&long).unwrap_err(), BadHead::TooLarge);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
        assert_eq!(request(&many).unwrap_err(), BadHead::TooLarge);
    }

    #[test]
    fn answers() {
        let read = |text: &str, to_head| {
            let head = read_response(&mut BytesMut::from(text), to_head).unwrap().unwrap();
            (head.status.as_u16(), head.framing, head.keep_alive)
        };
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(read(ok, false), (200, Framing::Length(3), true));
        assert_eq!(read(ok, true), (200, Framing::Empty, true));
        let bare = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(read(bare, false), (204, Framing::Empty, true));
        let endless = "HTTP/1.0 200 OK\r\n\r\n";
        assert_eq!(read(endless, false), (200, Framing::UntilClose, false));
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(read_response(&mut BytesMut::from(both), false).is_err());
    }

    #[test]
    fn headers_of_one_hop_are_not_written() {
        let mut headers = HeaderMap::new();
        for name in ["connection", "keep-alive", "te", "upgrade", "content-length", "x-a"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        let mut out = BytesMut::new();
        write_headers(&mut out, &headers, Framing::Length(7));
        assert_eq!(&out[..], b"x-a: 1\r\ncontent-length: 7\r\n");
    }

    proptest! {
        #[test]
        fn decimals_are_those_of_the_formatter(number in any::<u64>(), shift in 0u32..64) {
            let mut out = BytesMut::new();
            write_decimal(&mut out, number >> shift);
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), (number >> shift).to_string());
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_request(&mut BytesMut::from(&bytes[..]));
            let _ = read_response(&mut BytesMut::from(&bytes[..]), false);
        }

        #[test]
        fn text_never_panics(lines in "[ -~\r\n:]{0,80}") {
            let _ = request(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
        }
    }
}
