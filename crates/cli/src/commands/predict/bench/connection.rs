//! One HTTP/1.1 connection that sends the same request over and over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use miette::miette;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::super::client::Target;
use super::super::wire::{HEADER, Request};
use crate::failure::failure;

/// What every connection sends, and where to.
pub(super) struct Endpoint {
    address: SocketAddr,
    request: http::Request<()>,
    body: Bytes,
    timeout: Duration,
}

impl Endpoint {
    pub(super) async fn resolve(target: &Target, request: &Request) -> miette::Result<Self> {
        let uri: Uri = target.infer_url().parse().map_err(failure)?;
        if uri.scheme_str() != Some("http") {
            return Err(miette!(
                help = "measure the server itself, behind what ends TLS",
                "--bench speaks plain http only, not {}",
                target.url
            ));
        }
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err(miette!("{} names no host", target.url));
        };
        let port = uri.port_u16().unwrap_or(80);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| miette!("cannot find {host}: {error}"))?
            .next()
            .ok_or_else(|| miette!("{host} has no address"))?;
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        let mut builder = http::Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(HEADER, request.json_bytes);
        if let Some(key) = &target.api_key {
            let value = HeaderValue::try_from(format!("Bearer {}", key.expose()));
            let mut value = value.map_err(|_| miette!("the API key cannot be sent in a header"))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        let request_head = builder.body(()).map_err(failure)?;
        let body = request.body.clone();
        Ok(Self { address, request: request_head, body, timeout: target.timeout })
    }
}

/// Why a request failed, as the report counts them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    Connect,
    Closed,
    Timeout,
    Status(u16),
}

/// A connection that is made when it is needed.
pub(super) struct Connection {
    endpoint: Arc<Endpoint>,
    open: Option<Open>,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, open: None }
    }

    /// Sends the request and reads the whole answer.
    pub(super) async fn send(&mut self) -> Result<(), Failure> {
        let result = tokio::time::timeout(self.endpoint.timeout, self.try_send()).await;
        let result = result.unwrap_or(Err(Failure::Timeout));
        if matches!(result, Err(Failure::Closed | Failure::Timeout)) {
            self.open = None;
        }
        result
    }

    async fn try_send(&mut self) -> Result<(), Failure> {
        if self.open.as_ref().is_none_or(|open| open.sender.is_closed()) {
            self.open = Some(connect(self.endpoint.address).await?);
        }
        let Some(open) = &mut self.open else { return Err(Failure::Connect) };
        open.sender.ready().await.map_err(|_| Failure::Closed)?;
        let (parts, ()) = self.endpoint.request.clone().into_parts();
        let request = http::Request::from_parts(parts, Full::new(self.endpoint.body.clone()));
        let response = open.sender.send_request(request).await.map_err(|_| Failure::Closed)?;
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|_| Failure::Closed)?;
        }
        if status == StatusCode::OK { Ok(()) } else { Err(Failure::Status(status.as_u16())) }
    }
}

async fn connect(address: SocketAddr) -> Result<Open, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|_| Failure::Connect)?;
    stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Connect)?;
    // How it ends shows in the requests that it carries.
    let task = tokio::spawn(async move { drop(connection.await) });
    Ok(Open { sender, task })
}
