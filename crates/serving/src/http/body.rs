//! Reading request bodies, within limits of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_body::Body;
use http_body_util::BodyExt;

use crate::error::InferError;

/// Room that is made for a body before any of it has come. What is declared beyond this is only
/// believed as it comes.
const TRUSTED: usize = 1 << 20;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BodyError {
    /// Answer with this, then close: what the client still sends is not read.
    Refused(InferError),
    /// The client sent nothing for too long.
    Slow { waited: Duration },
    /// The connection broke, or what it carries is no HTTP.
    Broken(String),
}

/// Reads a whole body. One that comes in one piece is not copied.
pub(super) async fn read<B>(
    mut body: B,
    headers: &HeaderMap,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let declared = declared_length(headers);
    if declared.is_some_and(|declared| declared > limit as u64) {
        return Err(BodyError::Refused(too_large(declared, limit)));
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(piece) = next(&mut body, timeout).await? {
        let length = first.len().saturating_add(all.len()).saturating_add(piece.len());
        if length > limit {
            return Err(BodyError::Refused(too_large(None, limit)));
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
            continue;
        }
        if all.is_empty() {
            let declared = declared.and_then(|declared| usize::try_from(declared).ok());
            all.reserve(declared.unwrap_or(0).min(TRUSTED).max(length));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The next bytes; `None` at the end.
async fn next<B>(body: &mut B, timeout: Duration) -> Result<Option<Bytes>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    loop {
        if body.is_end_stream() {
            return Ok(None);
        }
        // Most often the bytes are there already, and a timer would cost more than taking them.
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => tokio::time::timeout(timeout, body.frame())
                .await
                .map_err(|_| BodyError::Slow { waited: timeout })?,
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(BodyError::Broken(error.to_string())),
            // Trailers say nothing that matters here.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The error for a body that is longer than the limit.
pub(super) fn too_large(declared: Option<u64>, limit: usize) -> InferError {
    let found = match declared {
        Some(declared) => format!("{declared} bytes are declared"),
        None => "more came".to_owned(),
    };
    InferError::TooLarge(format!("the request body may have {limit} bytes (--max-body), {found}"))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http::header::HeaderValue;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    type Pieces = VecDeque<Result<Frame<Bytes>, Infallible>>;

    async fn read_pieces(pieces: &[&'static str], declared: Option<u64>) -> Result<Bytes, String> {
        let frame = |piece: &&'static str| Ok(Frame::data(Bytes::from_static(piece.as_bytes())));
        let pieces: Pieces = pieces.iter().map(frame).collect();
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        let mut headers = HeaderMap::new();
        if let Some(declared) = declared {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(declared));
        }
        match read(body, &headers, 8, Duration::from_secs(1)).await {
            Ok(bytes) => Ok(bytes),
            Err(BodyError::Refused(error)) => Err(error.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn limits_what_is_declared_and_what_comes() {
        assert_eq!(read_pieces(&[], None).await, Ok(Bytes::new()));
        assert_eq!(read_pieces(&["abcd"], Some(4)).await, Ok(Bytes::from("abcd")));
        assert_eq!(read_pieces(&["ab", "", "cd", "ef"], None).await, Ok(Bytes::from("abcdef")));
        let error = read_pieces(&["abcd"], Some(9)).await.expect_err("too large");
        assert!(error.contains("8 bytes (--max-body), 9 bytes are declared"), "{error}");
        let error = read_pieces(&["abcd", "efgh", "i"], None).await.expect_err("too large");
        assert!(error.contains("more came"), "{error}");
    }

    #[tokio::test]
    async fn a_client_that_stops_sending_is_given_up() {
        let first =
            futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("a")))]);
        let body =
            StreamBody::new(futures_util::StreamExt::chain(first, futures_util::stream::pending()));
        let result = read(body, &HeaderMap::new(), 8, Duration::from_millis(10)).await;
        assert!(matches!(result, Err(BodyError::Slow { .. })), "{result:?}");
    }
}
