//! A gateway on a port of its own, tables for it, and a client that says exactly what it sends.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainyard_gateway::table::{Endpoint, Revision, Service};
use trainyard_gateway::{Gateway, Settings, Table};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<io::Result<()>>,
}

/// Settings under which a test need not wait long.
pub(crate) fn quick() -> Settings {
    Settings {
        close_grace: Duration::from_millis(50),
        drain_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(10),
        ..Settings::default()
    }
}

pub(crate) async fn start(settings: Settings, table: &Table) -> Running {
    let gateway = Gateway::new(settings);
    gateway.update(table);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn({
        let (gateway, stop) = (gateway.clone(), stop.clone());
        async move { gateway.serve(listener, stop).await }
    });
    Running { gateway, address, stop, served }
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { id: address.to_string().into(), address }
}

pub(crate) fn revision(name: &str, weight: u32, addresses: &[SocketAddr]) -> Revision {
    let endpoints = addresses.iter().copied().map(endpoint).collect();
    Revision { name: name.to_owned(), weight, endpoints }
}

/// One service named as its model, of one revision `r1`.
pub(crate) fn service(model: &str, addresses: &[SocketAddr]) -> Service {
    Service {
        models: vec![model.to_owned()],
        revisions: vec![revision("r1", 1, addresses)],
        ..Service::default()
    }
}

pub(crate) fn table(services: impl IntoIterator<Item = (&'static str, Service)>) -> Table {
    let services = services.into_iter().map(|(name, service)| (name.into(), service));
    Table { services: services.collect() }
}

pub(crate) fn iris(addresses: &[SocketAddr]) -> Table {
    table([("iris", service("iris", addresses))])
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head in lower case, to look headers up in.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

/// A client of HTTP/1.1 that keeps its connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let read = self.stream.read_buf(&mut self.read);
        tokio::time::timeout(PATIENCE, read).await.expect("no answer in time")
    }

    /// The next answer, also an interim one.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length {
                if self.fill().await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            answer.body = self.read.drain(..length).collect();
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await? {
                answer.body.extend(chunk);
            }
        } else if !(100..200).contains(&status) && status != 204 {
            while self.fill().await? > 0 {}
            answer.body = std::mem::take(&mut self.read);
        }
        Ok(answer)
    }

    /// The next chunk of a body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.read.windows(2).position(|bytes| bytes == b"\r\n") {
                let text = std::str::from_utf8(&self.read[..line]).unwrap();
                let size = usize::from_str_radix(text, 16).unwrap();
                if self.read.len() >= line + 2 + size + 2 {
                    let chunk = self.read[line + 2..line + 2 + size].to_vec();
                    self.read.drain(..line + 2 + size + 2);
                    return Ok((size > 0).then_some(chunk));
                }
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Only the head of the next answer; its body stays to be read.
    pub(crate) async fn head(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Ok(Answer { status, head, body: Vec::new() });
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.write(format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await;
        self.answer().await.unwrap()
    }

    pub(crate) async fn post(
        &mut self,
        path: &str,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> Answer {
        self.try_post(path, headers, body).await.unwrap()
    }

    pub(crate) async fn try_post(
        &mut self,
        path: &str,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> io::Result<Answer> {
        let body = body.as_ref();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        self.answer().await
    }

    /// Whether the gateway closes within patience, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && matches!(self.fill().await, Ok(0) | Err(_))
    }
}

/// One request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).await.get(path).await
}

pub(crate) async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    Client::connect(address).await.post(path, headers, body).await
}

/// Waits until something is so, with a deadline.
pub(crate) async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) const INFER: &str = "/v2/models/iris/infer";
