//! A command's end.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::path::ShortPath;
use super::protocol::{Hello, PROTOCOL, Reply, Request};
use crate::status::Status;

/// Why a supervisor was not asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none; nothing is wrong.
    #[error("no supervisor runs with the state folder `{state}`")]
    NotRunning { state: PathBuf },
    #[error("cannot talk to the supervisor at `{socket}`")]
    Socket { socket: PathBuf, source: io::Error },
    #[error(
        "the supervisor is Trainyard {version}, which this program cannot talk to; run `trainyard restart --gateway` to hand over to this one"
    )]
    Unfit { version: String },
    #[error("the supervisor's answer is not understood")]
    Answer(#[from] serde_json::Error),
    /// The supervisor says why not.
    #[error("{}", problems.join("\n"))]
    Refused { problems: Vec<String> },
}

/// A connection that a request was sent on.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    /// Held open: closing it would say that the client has gone.
    _writer: OwnedWriteHalf,
}

impl Client {
    /// Sends a request.
    pub async fn send(socket: &Path, request: &Request) -> Result<Self, ClientError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { state: socket.parent().unwrap_or(socket).to_owned() }
            }
            _ => ClientError::Socket { socket: socket.to_owned(), source },
        };
        let short = ShortPath::of(socket).map_err(failed)?;
        let stream = UnixStream::connect(&short.path).await.map_err(failed)?;
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            request: serde_json::to_value(request)?,
        };
        let mut line = serde_json::to_vec(&hello)?;
        line.push(b'\n');
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&line).await.map_err(failed)?;
        let lines = BufReader::new(reader).lines();
        Ok(Self { socket: socket.to_owned(), lines, _writer: writer })
    }

    /// The next answer; `None` when there is no more.
    pub async fn next(&mut self) -> Result<Option<Reply>, ClientError> {
        let failed = |source| ClientError::Socket { socket: self.socket.clone(), source };
        let Some(line) = self.lines.next_line().await.map_err(failed)? else { return Ok(None) };
        match serde_json::from_str(&line)? {
            Reply::Unfit { version, .. } => Err(ClientError::Unfit { version }),
            Reply::Failed { problems } => Err(ClientError::Refused { problems }),
            reply => Ok(Some(reply)),
        }
    }

    /// Sends a request and takes its one answer.
    pub async fn ask(socket: &Path, request: &Request) -> Result<Reply, ClientError> {
        let mut client = Self::send(socket, request).await?;
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let failed = || ClientError::Socket { socket: socket.to_owned(), source: ended() };
        client.next().await?.ok_or_else(failed)
    }

    /// The next status of a [`Request::Watch`]; `None` once the supervisor has ended.
    pub async fn next_status(&mut self) -> Result<Option<Status>, ClientError> {
        loop {
            match self.next().await? {
                Some(Reply::Status(status)) => return Ok(Some(*status)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}
