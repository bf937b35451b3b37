//! A web server that does what each test says, on loopback.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use trainyard_storage::{FetchOptions, Fetched, StorageError, fetch};

/// What a client asked for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) target: String,
    /// Inclusive, as in the header.
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) if_none_match: Option<String>,
    /// How many requests came before this one.
    pub(crate) number: usize,
}

/// What the server does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// In place of the body's true length.
    pub(crate) announced: Option<usize>,
    /// Closes the connection after so many bytes of the body.
    pub(crate) cut_after: Option<usize>,
    /// Says nothing at all for so long.
    pub(crate) delay: Duration,
}

/// Serves `content` as a good server does: ranges, ETag, conditional requests.
pub(crate) fn good(request: &Request, content: &[u8], etag: &str) -> Reply {
    let mut headers = vec![("etag", etag.to_owned()), ("accept-ranges", "bytes".to_owned())];
    if request.if_none_match.as_deref() == Some(etag) {
        return Reply { status: 304, headers, ..Reply::default() };
    }
    let Some((first, last)) = request.range else {
        return Reply { status: 200, headers, body: content.to_vec(), ..Reply::default() };
    };
    if first >= content.len() {
        headers.push(("content-range", format!("bytes */{}", content.len())));
        return Reply { status: 416, headers, ..Reply::default() };
    }
    let last = last.min(content.len() - 1);
    headers.push(("content-range", format!("bytes {first}-{last}/{}", content.len())));
    Reply { status: 206, headers, body: content[first..=last].to_vec(), ..Reply::default() }
}

pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // A client that goes away is no failure of the server.
                connections.spawn(async move { drop(converse(stream, &log, &*answer).await) });
            }
        });
        Self { address, requests, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// First bytes of the ranges asked for since request `since`, without probes.
    pub(crate) fn starts(&self, since: usize) -> Vec<usize> {
        let requests = self.requests.lock().unwrap();
        let ranges = requests[since..].iter().filter_map(|request| request.range);
        ranges.filter(|range| *range != (0, 0)).map(|range| range.0).collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            buffer.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
        let request = {
            let mut log = log.lock().unwrap();
            let request = parse(&head, log.len());
            log.push(request.clone());
            request
        };
        let reply = answer(&request);
        tokio::time::sleep(reply.delay).await;
        let length = reply.announced.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        if !reply.headers.iter().any(|header| header.0 == "transfer-encoding") {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        if request.method == "HEAD" {
            continue;
        }
        let sent = reply.cut_after.unwrap_or(usize::MAX).min(reply.body.len());
        stream.write_all(&reply.body[..sent]).await?;
        if sent < length {
            return Ok(());
        }
    }
}

fn parse(head: &str, number: usize) -> Request {
    let mut first = head.split(' ');
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let range = header("range").map(|value| {
        let (first, last) = value.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        (first.parse().unwrap(), last.parse().unwrap_or(usize::MAX))
    });
    Request {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        range,
        if_none_match: header("if-none-match"),
        number,
    }
}

/// Bytes that differ everywhere.
pub(crate) fn content(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

pub(crate) fn options(cache: &Path) -> FetchOptions {
    FetchOptions {
        cache: Some(cache.to_owned()),
        part_bytes: 64 << 10,
        backoff: Duration::from_millis(2),
        ..FetchOptions::default()
    }
}

pub(crate) async fn get(uri: &str, options: &FetchOptions) -> Result<Fetched, StorageError> {
    fetch(uri, options, &|_| {}, &CancellationToken::new()).await
}

/// Files below a folder of the cache.
pub(crate) fn files_in(cache: &Path, folder: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(cache.join(folder)) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
