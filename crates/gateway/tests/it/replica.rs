//! A replica on a real socket that behaves as a test wants it to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a replica does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers with this status and body, by `Content-Length`.
    Answer(u16, String),
    /// Answers with status 200 and the name of the replica after a while.
    Slow(Duration),
    /// Writes these bytes and keeps the connection.
    Raw(Vec<u8>),
    /// Writes these bytes and closes.
    RawThenClose(Vec<u8>),
    /// Writes these parts, each once it is told to.
    Steps(Vec<Vec<u8>>, Arc<tokio::sync::Semaphore>),
    /// Closes without an answer; with a reset.
    Reset,
    /// Never answers.
    Hang,
    /// Answers without reading the body.
    Early(u16),
}

pub(crate) fn ok(text: &str) -> Act {
    Act::Answer(200, text.to_owned())
}

/// A request as the replica saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

type Script = Arc<dyn Fn(usize, &Seen) -> Act + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Clients that went away while the replica was at work.
    pub(crate) abandoned: Arc<AtomicUsize>,
    kill: CancellationToken,
}

impl Replica {
    /// `script` says what to do with the n-th request, from 0 on.
    pub(crate) async fn start(
        script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let replica = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
            abandoned: Arc::default(),
            kill: CancellationToken::new(),
        };
        let script: Script = Arc::new(script);
        tokio::spawn({
            let replica = replica.clone();
            async move {
                let mut tasks = JoinSet::new();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let (stream, _) = accepted.unwrap();
                            replica.connections.fetch_add(1, Ordering::SeqCst);
                            tasks.spawn(replica.clone().connection(stream, script.clone()));
                        }
                        // Dropping sockets with unread bytes resets them, as a kill does.
                        () = replica.kill.cancelled() => break,
                    }
                }
            }
        });
        replica
    }

    pub(crate) async fn always(act: Act) -> Self {
        Self::start(move |_, _| act.clone()).await
    }

    /// As `kill -9` does: the listener and all connections end at once.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().expect("no request came")
    }

    async fn connection(self, mut stream: TcpStream, script: Script) {
        stream.set_nodelay(true).unwrap();
        let mut input = Vec::new();
        loop {
            let Some(head) = read_head(&mut stream, &mut input).await else { return };
            let line = head.lines().next().unwrap_or_default().to_owned();
            let mut seen = Seen { line, head: head.to_ascii_lowercase(), body: Vec::new() };
            let early = {
                let number = self.count();
                matches!(script(number, &seen), Act::Early(_))
            };
            if !early {
                let Some(body) = read_body(&mut stream, &mut input, &seen).await else { return };
                seen.body = body;
            }
            let number = {
                let mut all = self.seen.lock().unwrap();
                all.push(seen.clone());
                all.len() - 1
            };
            let act = script(number, &seen);
            if !self.act(&mut stream, act).await {
                return;
            }
        }
    }

    async fn act(&self, stream: &mut TcpStream, act: Act) -> bool {
        let plain = |status: u16, body: &str| {
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        match act {
            Act::Answer(status, body) => {
                stream.write_all(plain(status, &body).as_bytes()).await.is_ok()
            }
            Act::Slow(time) => {
                let mut byte = [0];
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    _ = stream.read(&mut byte) => {
                        self.abandoned.fetch_add(1, Ordering::SeqCst);
                        return false;
                    }
                }
                let body = self.address.to_string();
                stream.write_all(plain(200, &body).as_bytes()).await.is_ok()
            }
            Act::Raw(bytes) => stream.write_all(&bytes).await.is_ok(),
            Act::RawThenClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                false
            }
            Act::Steps(parts, go) => {
                for part in parts {
                    go.acquire().await.unwrap().forget();
                    if stream.write_all(&part).await.is_err() {
                        return false;
                    }
                }
                true
            }
            Act::Reset => {
                let _ = stream.set_zero_linger();
                false
            }
            Act::Hang => {
                let mut byte = [0];
                let _ = stream.read(&mut byte).await;
                self.abandoned.fetch_add(1, Ordering::SeqCst);
                false
            }
            Act::Early(status) => {
                let _ = stream.write_all(plain(status, "early").as_bytes()).await;
                false
            }
        }
    }
}

async fn read_head(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head: Vec<u8> = input.drain(..end + 4).collect();
            return String::from_utf8(head).ok();
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

async fn read_body(stream: &mut TcpStream, input: &mut Vec<u8>, seen: &Seen) -> Option<Vec<u8>> {
    if let Some(length) = seen.header("content-length") {
        let length: usize = length.parse().ok()?;
        while input.len() < length {
            if stream.read_buf(input).await.ok()? == 0 {
                return None;
            }
        }
        return Some(input.drain(..length).collect());
    }
    let mut body = Vec::new();
    if seen.header("transfer-encoding") != Some("chunked") {
        return Some(body);
    }
    loop {
        if let Some(line) = input.windows(2).position(|bytes| bytes == b"\r\n") {
            let size = std::str::from_utf8(&input[..line]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            if input.len() >= line + 2 + size + 2 {
                body.extend_from_slice(&input[line + 2..line + 2 + size]);
                input.drain(..line + 2 + size + 2);
                if size == 0 {
                    return Some(body);
                }
                continue;
            }
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}
