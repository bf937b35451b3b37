//! The model's name in the first gRPC message of a call.

use std::io::Read;

use super::Peek;

/// Flag byte and big-endian length before each message.
const FRAME_HEADER: usize = 5;
/// A name is short; what claims to be longer is not searched for.
const MAX_NAME: usize = 4_096;

/// Looks for the string at `path` (field numbers, outermost first) in the first message.
///
/// `encoding` is the call's `grpc-encoding`; a compressed message is inflated as far as it is
/// there, and `limit` bytes at most.
pub(crate) fn model_name(body: &[u8], encoding: Option<&str>, path: &[u32], limit: usize) -> Peek {
    let Some((header, rest)) = body.split_first_chunk::<FRAME_HEADER>() else {
        return Peek::NeedMore;
    };
    let [compressed, length @ ..] = *header;
    let length = u32::from_be_bytes(length) as usize;
    let message = rest.get(..length).unwrap_or(rest);
    let whole = message.len() == length;
    if compressed == 0 {
        return find(message, whole, path);
    }
    let mut inflated = Vec::new();
    let limit = limit as u64;
    // An error at the end of what is there is expected: the rest has not come yet.
    let read = match encoding {
        Some("gzip") => {
            flate2::read::GzDecoder::new(message).take(limit).read_to_end(&mut inflated)
        }
        Some("deflate") => {
            flate2::read::ZlibDecoder::new(message).take(limit).read_to_end(&mut inflated)
        }
        _ => return Peek::Broken,
    };
    let whole_inflated = whole && read.is_ok() && (inflated.len() as u64) < limit;
    match find(&inflated, whole_inflated, path) {
        Peek::NeedMore if whole => Peek::Broken,
        other => other,
    }
}

fn find(mut message: &[u8], whole: bool, path: &[u32]) -> Peek {
    let Some((wanted, deeper)) = path.split_first() else { return Peek::Missing };
    let at_end = if whole { Peek::Missing } else { Peek::NeedMore };
    let cut = if whole { Peek::Broken } else { Peek::NeedMore };
    while !message.is_empty() {
        let Some((tag, rest)) = varint(message) else { return cut };
        let (field, kind) = (tag >> 3, tag & 7);
        message = rest;
        let skip = match kind {
            0 => match varint(message) {
                Some((_, rest)) => message.len() - rest.len(),
                None => return cut,
            },
            1 => 8,
            5 => 4,
            2 => {
                let Some((length, rest)) = varint(message) else { return cut };
                let Ok(length) = usize::try_from(length) else { return Peek::Broken };
                message = rest;
                if field == u64::from(*wanted) {
                    let inner = message.get(..length);
                    return match (inner, deeper) {
                        (Some(name), []) => text(name),
                        (None, []) if length > MAX_NAME || whole => Peek::Broken,
                        (None, []) => Peek::NeedMore,
                        (Some(inner), deeper) => find(inner, true, deeper),
                        (None, _) if whole => Peek::Broken,
                        (None, deeper) => find(message, false, deeper),
                    };
                }
                length
            }
            _ => return Peek::Broken,
        };
        match message.get(skip..) {
            Some(rest) => message = rest,
            None => return cut,
        }
    }
    at_end
}

fn text(name: &[u8]) -> Peek {
    match std::str::from_utf8(name) {
        Ok("") => Peek::Missing,
        Ok(name) if name.len() <= MAX_NAME => Peek::Found(name.to_owned()),
        _ => Peek::Broken,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    // Ten bytes without an end are no varint; reading on cannot mend it, and the caller gives up
    // at its limit.
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn framed(compressed: u8, message: &[u8]) -> Vec<u8> {
        let mut body = vec![compressed];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        body
    }

    /// A `ModelInferRequest` with an id (field 3) before its name (field 1).
    const INFER: &[u8] = b"\x1a\x017\x0a\x04iris\x3a\x08\0\0\0\0\0\0\0\0";
    /// A `PredictRequest` with `model_spec { name: "half" }`.
    const PREDICT: &[u8] = b"\x0a\x06\x0a\x04half\x12\x02ab";

    #[track_caller]
    fn check(body: &[u8], path: &[u32], expected: Peek) {
        assert_eq!(model_name(body, Some("gzip"), path, 1 << 16), expected);
    }

    #[test]
    fn table() {
        let found = |name: &str| Peek::Found(name.to_owned());
        check(&framed(0, INFER), &[1], found("iris"));
        check(&framed(0, PREDICT), &[1, 1], found("half"));
        check(&framed(0, PREDICT)[..13], &[1, 1], found("half"));
        check(&framed(0, PREDICT)[..10], &[1, 1], Peek::NeedMore);
        check(&[], &[1], Peek::NeedMore);
        check(&framed(0, b""), &[1], Peek::Missing);
        check(&framed(0, b"\x0a\x00"), &[1], Peek::Missing);
        check(&framed(0, b"\x0a\x05abc"), &[1], Peek::Broken);
        check(&framed(0, b"\x0a\x02\xff\xfe"), &[1], Peek::Broken);
        check(&framed(0, &[0xff; 12]), &[1], Peek::Broken);
        check(&framed(1, b"no gzip"), &[1], Peek::Broken);
    }

    #[test]
    fn compressed_messages_are_read() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(INFER).unwrap();
        check(&framed(1, &gzip.finish().unwrap()), &[1], Peek::Found("iris".to_owned()));
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(INFER).unwrap();
        let body = framed(1, &zlib.finish().unwrap());
        let found = model_name(&body, Some("deflate"), &[1], 1 << 16);
        assert_eq!(found, Peek::Found("iris".to_owned()));
        assert_eq!(model_name(&body, None, &[1], 1 << 16), Peek::Broken);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(
            body in proptest::collection::vec(any::<u8>(), 0..200), deep in any::<bool>(),
        ) {
            model_name(&body, Some("gzip"), if deep { &[1, 1, 1] } else { &[1] }, 4_096);
        }

        #[test]
        fn a_prefix_never_says_another_name(cut in 0usize..100) {
            let body = framed(0, INFER);
            let prefix = &body[..cut.min(body.len())];
            let peek = model_name(prefix, None, &[1], 1 << 16);
            prop_assert!(matches!(peek, Peek::NeedMore) || peek == Peek::Found("iris".to_owned()));
        }
    }
}
