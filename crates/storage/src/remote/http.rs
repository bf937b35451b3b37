//! A file on a web server.

use std::ops::Range;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_NONE_MATCH, LAST_MODIFIED,
    RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode, Url};

use super::{Chunks, Listing, RemoteFile, Tag};
use crate::authorities;
use crate::error::{StorageError, in_full};
use crate::fault::{Fault, within};
use crate::fetch::FetchOptions;
use crate::key;
use crate::location::may_fetch;

/// A server on the other side of the world answers within a fraction of this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As curl's default is 50 and browsers stop at 20; more than this is a loop.
const MAX_REDIRECTS: usize = 10;

pub(crate) struct HttpRemote {
    client: Client,
    url: Url,
    /// As errors show it.
    uri: String,
    name: String,
    stall: Duration,
}

impl HttpRemote {
    pub(super) fn open(url: Url, uri: &str, options: &FetchOptions) -> Result<Self, StorageError> {
        let wrong =
            |reason: &str| StorageError::Uri { uri: uri.to_owned(), reason: reason.to_owned() };
        let name = file_name(&url).ok_or_else(|| {
            wrong("it ends in no file name; a web server has no folders to list, so name one file")
        })?;
        key::check(&name).map_err(wrong)?;
        let allow_http = options.allow_http;
        let redirects = Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("it redirects in circles")
            } else if may_fetch(attempt.url(), allow_http) {
                attempt.follow()
            } else {
                attempt.error("it redirects from https to plain http")
            }
        });
        let unusable = |reason| StorageError::Settings { uri: uri.to_owned(), reason };
        let brought = authorities::brought().map_err(unusable)?.unwrap_or_default();
        let brought = Certificate::from_pem_bundle(&brought).map_err(|it| unusable(text(it)))?;
        let client = Client::builder()
            .tls_certs_merge(brought)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirects)
            .referer(false)
            .user_agent(concat!("trainyard/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unusable(text(error)))?;
        Ok(Self { client, url, uri: uri.to_owned(), name, stall: options.stall })
    }

    /// Asks for the first byte only. A GET, because signed URLs are signed for one method, and
    /// because it shows whether ranges work.
    pub(super) async fn probe(&self, known: Option<&Tag>) -> Result<Listing, Fault> {
        let mut request = self.get().header(RANGE, "bytes=0-0");
        if let Some(etag) = known.and_then(Tag::as_etag) {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = self.send(request).await?;
        let (size, ranges) = match response.status() {
            StatusCode::NOT_MODIFIED => return Ok(Listing::Unchanged),
            StatusCode::OK => (content_length(response.headers()), false),
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((Some((0, 0)), Some(total))) => (Some(total), true),
                _ => (None, false),
            },
            // There is no first byte: it is empty.
            StatusCode::RANGE_NOT_SATISFIABLE => match content_range(response.headers()) {
                Some((None, Some(0))) => (Some(0), false),
                _ => (None, false),
            },
            _ => return Err(self.refused(&response)),
        };
        Ok(Listing::File(RemoteFile {
            path: self.name.clone(),
            key: String::new(),
            size,
            tag: tag(response.headers()),
            ranges,
        }))
    }

    pub(super) async fn read(
        &self,
        file: &RemoteFile,
        range: Option<Range<u64>>,
    ) -> Result<Chunks, Fault> {
        let mut request = self.get();
        if let Some(range) = &range {
            // The header's end is inclusive.
            let last = range.end.saturating_sub(1);
            request = request.header(RANGE, format!("bytes={}-{last}", range.start));
        }
        let response = self.send(request).await?;
        match (&range, response.status()) {
            (Some(range), StatusCode::PARTIAL_CONTENT) => {
                let given = content_range(response.headers());
                let last = range.end.saturating_sub(1);
                let Some((Some(given), total)) = given else {
                    return Err(Fault::transient("its 206 answer has no Content-Range"));
                };
                if total.is_some() && total != file.size {
                    return Err(Fault::Changed);
                }
                if given != (range.start, last) {
                    return Err(Fault::transient("it answered another range than asked for"));
                }
            }
            (Some(_), StatusCode::OK) => return Err(Fault::NoRanges),
            (Some(_), StatusCode::RANGE_NOT_SATISFIABLE) => return Err(Fault::Changed),
            (None, StatusCode::OK) => {
                let size = content_length(response.headers());
                if size.is_some() && file.size.is_some() && size != file.size {
                    return Err(Fault::Changed);
                }
            }
            (_, StatusCode::NOT_FOUND | StatusCode::GONE) => return Err(Fault::Changed),
            _ => return Err(self.refused(&response)),
        }
        if tag(response.headers()) != file.tag {
            return Err(Fault::Changed);
        }
        let chunks = response.bytes_stream();
        Ok(chunks.map(|chunk| chunk.map_err(|error| Fault::transient(text(error)))).boxed())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        within(self.stall, request.send()).await?.map_err(|error| Fault::transient(text(error)))
    }

    fn get(&self) -> RequestBuilder {
        // A compressed body would have another length and no ranges.
        self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity")
    }

    fn refused(&self, response: &Response) -> Fault {
        let status = response.status();
        let uri = self.uri.clone();
        let reason = format!("it answered {status}");
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => StorageError::NotFound { uri }.into(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                StorageError::Denied { uri, reason, help: "a signed URL may have expired" }.into()
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Fault::Transient { reason, after: retry_after(response.headers()) }
            }
            _ if status.is_server_error() => {
                Fault::Transient { reason, after: retry_after(response.headers()) }
            }
            _ => StorageError::Rejected { uri, reason }.into(),
        }
    }
}

/// The last part of the path, decoded.
fn file_name(url: &Url) -> Option<String> {
    let last = url.path_segments()?.next_back().filter(|last| !last.is_empty())?;
    Some(percent_decoded(last))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let code = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match (code, after.get(2..)) {
            (Some(byte), Some(after)) => {
                bytes.push(byte);
                after
            }
            _ => {
                bytes.push(b'%');
                after
            }
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tag(headers: &HeaderMap) -> Option<Tag> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    value(ETAG).map(Tag::etag).or_else(|| value(LAST_MODIFIED).map(Tag::modified))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

type GivenRange = (Option<(u64, u64)>, Option<u64>);

/// First and last byte, and the size of the whole: `bytes 0-9/100`, `bytes */100`, `bytes 0-9/*`.
fn content_range(headers: &HeaderMap) -> Option<GivenRange> {
    parse_content_range(headers.get(CONTENT_RANGE)?.to_str().ok()?)
}

fn parse_content_range(text: &str) -> Option<GivenRange> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    Some((Some((first.parse().ok()?, last.parse().ok()?)), total))
}

/// Seconds; servers that send a date instead get our own pause.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The error with its causes and without the URL, which may hold a signature.
fn text(error: reqwest::Error) -> String {
    in_full(&error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let check = |text, expected| assert_eq!(parse_content_range(text), expected, "{text}");
        check("bytes 0-9/100", Some((Some((0, 9)), Some(100))));
        check("bytes 5-5/*", Some((Some((5, 5)), None)));
        check("bytes */0", Some((None, Some(0))));
        for wrong in ["", "bytes", "bytes 0/1", "items 0-1/2", "bytes 0--1/2", "bytes 0-1/-2"] {
            check(wrong, None);
        }
    }

    #[test]
    fn names() {
        let check = |url, expected: Option<&str>| {
            assert_eq!(file_name(&Url::parse(url).unwrap()).as_deref(), expected, "{url}");
        };
        check("https://h/a/m.onnx?x=/y", Some("m.onnx"));
        check("https://h/my%20model%", Some("my model%"));
        check("https://h/..%2fetc", Some("../etc"));
        check("https://h/folder/", None);
        check("https://h", None);
    }
}
