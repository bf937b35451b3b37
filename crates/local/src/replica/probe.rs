//! Asking a replica: a connection, or the status of one GET.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trainyard_plan::{Check, Probe};

/// Runs one probe, within its timeout. The error says what is wrong, for people.
pub(super) async fn probe(address: SocketAddr, probe: &Probe) -> Result<(), String> {
    let ask = async {
        match &probe.check {
            Check::Tcp { .. } => TcpStream::connect(address).await.map(drop).map_err(in_words),
            Check::Http { path, .. } => {
                let mut stream = TcpStream::connect(address).await.map_err(in_words)?;
                let head = send(&mut stream, address, path).await.map_err(in_words)?;
                match status(&head) {
                    Some(200..=399) => Ok(()),
                    Some(status) => Err(format!("GET {path} answers {status}")),
                    None => Err(format!("GET {path} is not answered in HTTP")),
                }
            }
        }
    };
    match tokio::time::timeout(probe.timeout, ask).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {:?}", probe.timeout)),
    }
}

fn in_words(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "it does not listen".to_owned(),
        _ => error.to_string(),
    }
}

/// Asks, and reads as much of the answer as tells the status.
async fn send(stream: &mut TcpStream, address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    // HTTP/1.0: the answer ends with the connection, and is in no chunks.
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: trainyard\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(256);
    while head.len() < STATUS_LINE {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

fn status(head: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(head.get(..STATUS_LINE)?).ok()?;
    let (version, status) = text.split_once(' ')?;
    version.strip_prefix("HTTP/1.")?;
    status.parse().ok()
}

/// The body of one GET that is answered with 200, for metadata: at most `limit` bytes.
pub(crate) async fn get(
    address: SocketAddr,
    path: &str,
    limit: u64,
    timeout: Duration,
) -> io::Result<Vec<u8>> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut answer = send(&mut stream, address, path).await?;
        stream.take(limit).read_to_end(&mut answer).await?;
        if status(&answer) != Some(200) {
            return Err(io::Error::other(format!("GET {path} is not answered with 200")));
        }
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let start = body.map_or(answer.len(), |at| at.saturating_add(4));
        Ok(answer.split_off(start))
    };
    tokio::time::timeout(timeout, ask).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert_eq!(status(b"SSH-2.0-Open SSH"), None);
        assert_eq!(status(b""), None);
    }

    async fn serve(answer: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn http_and_tcp() {
        let http = |timeout| Probe {
            check: Check::Http { port: "http".to_owned(), path: "/ready".to_owned() },
            period: Duration::from_secs(1),
            timeout,
            failures: 3,
        };
        let second = Duration::from_secs(1);
        let address = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert_eq!(probe(address, &http(second)).await, Ok(()));
        assert_eq!(get(address, "/", 100, second).await.unwrap(), b"{}");
        let address = serve("HTTP/1.1 503 Busy\r\n\r\n").await;
        assert_eq!(probe(address, &http(second)).await, Err("GET /ready answers 503".to_owned()));
        assert!(get(address, "/", 100, second).await.is_err());
        let address = serve("").await;
        assert!(probe(address, &http(second)).await.is_err());

        // It takes connections and says nothing.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(probe(address, &http(Duration::from_millis(20))).await.is_err());
        let tcp = Probe { check: Check::Tcp { port: "http".to_owned() }, ..http(second) };
        assert_eq!(probe(address, &tcp).await, Ok(()));
        drop(listener);
        assert_eq!(probe(address, &tcp).await, Err("it does not listen".to_owned()));
    }
}
