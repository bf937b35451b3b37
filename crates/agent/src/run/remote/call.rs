//! Runs a command on another worker: the side of who asks.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::super::token::Token;
use super::message::{Answer, COMMANDS, Request, read_answer};
use super::print;

/// A worker that does not answer is asked again for so long: it may be on its way.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// For one try.
const CONNECT: Duration = Duration::from_secs(5);

/// How a command on another worker went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called {
    /// As a shell tells it.
    pub code: u8,
}

/// Why a command was not run there, or its end is not known.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no agent answers there in {} s", PATIENCE.as_secs())]
    NotReached(#[source] io::Error),
    #[error("its agent does not run the command: {0}")]
    Refused(String),
    #[error("the connection to its agent ended before the command did")]
    Lost(#[source] io::Error),
}

/// Runs a command line on the worker at `host`, whose output becomes ours.
pub async fn call(
    (host, port): (&str, u16),
    token: &Token,
    command: String,
) -> Result<Called, CallError> {
    let request = Request::Run(command);
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match connect((host, port), token, &request).await {
            Ok(stream) => break stream,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(CallError::Refused(error.to_string()));
            }
            Err(error) if Instant::now() >= deadline => return Err(CallError::NotReached(error)),
            Err(_) => sleep(PAUSE).await,
        }
    };
    loop {
        match read_answer(&mut stream).await {
            Ok(Some(output @ (Answer::Out(_) | Answer::Err(_)))) => print(output).await,
            Ok(Some(Answer::Ended(code))) => return Ok(Called { code }),
            Ok(Some(Answer::Refused(why))) => return Err(CallError::Refused(why)),
            Ok(Some(Answer::Accepted | Answer::Leaving)) => {}
            Ok(None) => return Err(CallError::Lost(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(CallError::Lost(error)),
        }
    }
}

/// Connects and asks. Nothing was asked yet if it fails before the request is out.
pub(super) async fn connect(
    (host, port): (&str, u16),
    token: &Token,
    request: &Request,
) -> io::Result<TcpStream> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let mut stream =
        timeout(CONNECT, TcpStream::connect((host, port))).await.map_err(|_| late())??;
    let _ = stream.set_nodelay(true);
    timeout(CONNECT, COMMANDS.send(&mut stream, token, request)).await.map_err(|_| late())??;
    Ok(stream)
}
