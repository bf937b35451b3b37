//! Compressed requests and answers: gzip, and deflate in its zlib form.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};

use super::body::too_large;
use super::payload::{Answer, Payload};
use crate::error::InferError;

/// Answers below this size are sent as they are: they fit a packet.
const MIN_SIZE: usize = 1_024;

/// Bodies above this size are compressed and decompressed on a thread that may block: at about
/// 100 MB/s for gzip, this many bytes take less than the 100 µs that a runtime thread may.
const INLINE_SIZE: usize = 8 << 10;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    fn of(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }
}

/// The coding of a request's body; an error if it is one that is not known.
pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Coding>, InferError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
    let name = value.to_str().unwrap_or_default().trim();
    if name.is_empty() || name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    Coding::of(name).map(Some).ok_or_else(|| {
        InferError::Unsupported(format!(
            "Unsupported compression type '{name}', expected gzip or deflate"
        ))
    })
}

/// Decompresses a body, to `limit` bytes at most.
pub(super) async fn decompress(
    coding: Coding,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, InferError> {
    // The size after decompression is not known beforehand, so any body may be a large one.
    let decompressed = tokio::task::spawn_blocking(move || decompressed(coding, &body, limit));
    match decompressed.await {
        Ok(result) => result,
        Err(error) => Err(InferError::Internal(format!("decompression failed: {error}"))),
    }
}

fn decompressed(coding: Coding, body: &[u8], limit: usize) -> Result<Bytes, InferError> {
    // One byte more than allowed tells a body that fits from one that is cut off.
    let most = (limit as u64).saturating_add(1);
    let mut out = Vec::with_capacity(body.len().min(limit));
    let read = match coding {
        Coding::Gzip => MultiGzDecoder::new(body).take(most).read_to_end(&mut out),
        Coding::Deflate => ZlibDecoder::new(body).take(most).read_to_end(&mut out),
    };
    read.map_err(|error| {
        InferError::Invalid(format!(
            "the request body is not what its Content-Encoding says: {error}"
        ))
    })?;
    if out.len() > limit { Err(too_large(None, limit)) } else { Ok(Bytes::from(out)) }
}

/// The coding in which a client wants answers of JSON, and whether it asked for that coding alone.
pub(super) fn wanted(headers: &HeaderMap) -> Option<(Coding, bool)> {
    let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    let mut names = accepted.split(',').filter(|part| !refuses(part));
    let mut alone = None;
    let mut chosen = None;
    for part in names.by_ref() {
        let name = part.split(';').next().unwrap_or_default().trim();
        alone = Some(alone.is_none());
        if chosen.is_none() {
            chosen = Coding::of(name);
        }
    }
    Some((chosen?, alone.unwrap_or(false)))
}

/// Whether a part of `Accept-Encoding` has the weight 0.
fn refuses(part: &str) -> bool {
    let weight = part.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q="));
    weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0f32))
}

/// Compresses an answer if that is wanted and worth it.
///
/// Every Python and Go client accepts gzip unasked, but compressing a tensor costs more than sending
/// it. So binary tensors are compressed only for a client that asks for one coding and no other, as
/// tritonclient does when it is told to.
pub(super) async fn compress(wanted: Option<(Coding, bool)>, answer: Answer) -> Answer {
    let Some((coding, alone)) = wanted else { return answer };
    let is_binary = answer
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|content_type| content_type == "application/octet-stream");
    let size = answer.body().len();
    if size < MIN_SIZE || (is_binary && !alone) || answer.headers().contains_key(CONTENT_ENCODING) {
        return answer;
    }
    let (mut head, payload) = answer.into_parts();
    let compressed = if size <= INLINE_SIZE {
        compressed(coding, payload)
    } else {
        let task = tokio::task::spawn_blocking(move || compressed(coding, payload));
        task.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    };
    match compressed {
        Ok(bytes) => {
            head.headers.insert(CONTENT_ENCODING, coding.name());
            head.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
            Answer::from_parts(head, Payload::from(bytes))
        }
        // Writing to memory does not fail.
        Err(error) => {
            let error = InferError::Internal(format!("compression failed: {error}"));
            crate::protocol::oip::failure(&error)
        }
    }
}

fn compressed(coding: Coding, payload: Payload) -> io::Result<Bytes> {
    let out = Vec::with_capacity(payload.len() / 2);
    // The fastest level: it takes most of what can be taken from digits.
    let out = match coding {
        Coding::Gzip => write(GzEncoder::new(out, Compression::fast()), payload)?.finish()?,
        Coding::Deflate => write(ZlibEncoder::new(out, Compression::fast()), payload)?.finish()?,
    };
    Ok(Bytes::from(out))
}

fn write<W: Write>(mut encoder: W, payload: Payload) -> io::Result<W> {
    for piece in payload.pieces() {
        encoder.write_all(&piece)?;
    }
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn requests() {
        let coding = |value| of_request(&headers(CONTENT_ENCODING, value));
        assert_eq!(coding("gzip").expect("known"), Some(Coding::Gzip));
        assert_eq!(coding("Deflate").expect("known"), Some(Coding::Deflate));
        assert_eq!(coding("identity").expect("none"), None);
        assert!(coding("br").expect_err("unknown").to_string().contains("Unsupported compression"));
        assert!(coding("gzip, gzip").is_err());
    }

    #[test]
    fn answers() {
        let wanted = |value| wanted(&headers(ACCEPT_ENCODING, value));
        assert_eq!(wanted("gzip"), Some((Coding::Gzip, true)));
        assert_eq!(wanted("deflate;q=0.5"), Some((Coding::Deflate, true)));
        assert_eq!(wanted("gzip, deflate, br"), Some((Coding::Gzip, false)));
        assert_eq!(wanted("br, deflate"), Some((Coding::Deflate, false)));
        assert_eq!(wanted("gzip;q=0, deflate"), Some((Coding::Deflate, true)));
        assert_eq!(wanted("gzip;q=0"), None);
        assert_eq!(wanted("br"), None);
        assert_eq!(wanted("identity"), None);
    }

    #[test]
    fn what_is_compressed_decompresses_within_the_limit() {
        let zeros = Bytes::from(vec![0; 100_000]);
        for coding in [Coding::Gzip, Coding::Deflate] {
            let small = compressed(coding, Payload::from(zeros.clone())).expect("compresses");
            assert!(small.len() < 1_000);
            assert_eq!(decompressed(coding, &small, 100_000).expect("fits"), zeros);
            let error = decompressed(coding, &small, 99_999).expect_err("a bomb").to_string();
            assert!(error.contains("--max-body"), "{error}");
            assert!(decompressed(coding, b"not compressed", 100).is_err());
            assert!(decompressed(coding, &small[..small.len() / 2], 100_000).is_err(), "cut off");
        }
    }

    #[tokio::test]
    async fn small_and_binary_answers_stay_as_they_are() {
        let answer = |size: usize, content_type: &'static str| {
            let mut answer = Answer::new(Payload::from(Bytes::from(vec![b'1'; size])));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            answer
        };
        let json = "application/json";
        let binary = "application/octet-stream";
        for (size, content_type, wanted, expected) in [
            (100, json, Some((Coding::Gzip, true)), false),
            (5_000, json, Some((Coding::Gzip, false)), true),
            (500_000, json, Some((Coding::Deflate, false)), true),
            (5_000, json, None, false),
            (5_000, binary, Some((Coding::Gzip, false)), false),
            (5_000, binary, Some((Coding::Gzip, true)), true),
        ] {
            let sent = compress(wanted, answer(size, content_type)).await;
            let is_compressed = sent.headers().contains_key(CONTENT_ENCODING);
            assert_eq!(is_compressed, expected, "{size} {content_type} {wanted:?}");
        }
    }
}
