//! One question by HTTP, of a service on this machine or of another worker's agent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Those that are asked are near, and say at once what they know.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes; an answer that is longer is none that was asked for.
const LONGEST: usize = 64 * 1024;

/// Gives the answer's status and text. Cancel-safe.
pub(super) async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    header: Option<(&str, &str)>,
) -> io::Result<(StatusCode, String)> {
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(hyper::header::HOST, address.to_string());
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let answer = async {
            let response = send.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection may end first, with the answer complete.
            _ = &mut connection => answer.await,
        }
    };
    match timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
