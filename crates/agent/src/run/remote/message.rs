//! What agents say to each other about commands and their end.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::report::Ended;
use super::super::wire::{Protocol, not_understood, read_frame, write_frame};

pub(super) const COMMANDS: Protocol = Protocol {
    magic: *b"tyremot1",
    purpose: b"trainyard remote command 1",
    longest_request: LONGEST_REQUEST,
};
/// A request has a command line, of which Linux takes no more than this.
const LONGEST_REQUEST: usize = 2 << 20;
/// Output comes in pieces; an end has the last lines of a log.
const LONGEST_FRAME: usize = 1 << 20;

/// What whoever connects wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Request {
    /// To have this command line run.
    Run(String),
    /// To be followed: it is the first worker.
    Follow,
}

/// Frames of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    /// Why it does not do that.
    Refused(String),
    /// What the command has printed.
    Out(Vec<u8>),
    Err(Vec<u8>),
    /// The command has ended with this exit code; the first worker's end is understood.
    Ended(u8),
    /// This worker was told to end, so that its processes will be missed.
    Leaving,
}

impl Answer {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let Some((kind, content)) = read_frame(from, LONGEST_FRAME).await? else { return Ok(None) };
        Ok(Some(match (kind, content.as_slice()) {
            (b'a', []) => Self::Accepted,
            (b'r', _) => Self::Refused(String::from_utf8_lossy(&content).into_owned()),
            (b'o', _) => Self::Out(content),
            (b'e', _) => Self::Err(content),
            (b'x', [code]) => Self::Ended(*code),
            (b'l', []) => Self::Leaving,
            _ => return Err(not_understood()),
        }))
    }

    fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::Accepted => (b'a', &[]),
            Self::Refused(why) => (b'r', why.as_bytes()),
            Self::Out(bytes) => (b'o', bytes),
            Self::Err(bytes) => (b'e', bytes),
            Self::Ended(code) => (b'x', std::slice::from_ref(code)),
            Self::Leaving => (b'l', &[]),
        }
    }
}

/// The next frame of a listener; none at the end of the connection.
pub(super) async fn read_answer(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Answer>> {
    Answer::read(from).await
}

pub(super) async fn write_answer(
    to: &mut (impl AsyncWrite + Unpin),
    answer: &Answer,
) -> io::Result<()> {
    let (kind, content) = answer.parts();
    write_frame(to, kind, content).await
}

/// The end of the first worker's program; none if the connection ends without one.
pub(super) async fn read_end(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Ended>> {
    match read_frame(from, LONGEST_FRAME).await? {
        None => Ok(None),
        Some((b'x', content)) => {
            serde_json::from_slice(&content).map(Some).map_err(|_| not_understood())
        }
        Some(_) => Err(not_understood()),
    }
}

pub(super) async fn write_end(to: &mut (impl AsyncWrite + Unpin), ended: &Ended) -> io::Result<()> {
    let content = serde_json::to_vec(ended).map_err(io::Error::other)?;
    write_frame(to, b'x', &content).await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::super::course::Cause;
    use super::super::super::token::{CHALLENGE, PROOF, Token};
    use super::*;

    fn token() -> Token {
        Token::of(&[7; 32])
    }

    async fn received(by: &Token, request: &Request) -> io::Result<Option<Request>> {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        // Whoever gives up hangs up.
        let speak = async move { COMMANDS.send(&mut theirs, &token(), request).await };
        let (sent, received) = tokio::join!(speak, COMMANDS.receive(&mut ours, by));
        sent?;
        received
    }

    #[tokio::test]
    async fn who_knows_the_token_is_heard() {
        for request in [Request::Run("orted -mca ess \"env\" é".to_owned()), Request::Follow] {
            assert_eq!(received(&token(), &request).await.unwrap(), Some(request.clone()));
            assert_eq!(received(&Token::of(&[8; 32]), &request).await.unwrap(), None);
        }
        let long = Request::Run("x".repeat(LONGEST_REQUEST));
        assert_eq!(
            received(&token(), &long).await.unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    /// What a listener makes of any bytes after its greeting.
    async fn heard(bytes: &[u8]) -> io::ErrorKind {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        COMMANDS.receive::<Request>(&mut ours, &token()).await.unwrap_err().kind()
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        let with_proof = |rest: &[u8]| [&[0; PROOF], rest].concat();
        assert_eq!(heard(b"GET / HTTP/1.1\r\n\r\n").await, io::ErrorKind::UnexpectedEof);
        assert_eq!(heard(&with_proof(b"")).await, io::ErrorKind::InvalidData);
        assert_eq!(heard(&with_proof(b"q")).await, io::ErrorKind::UnexpectedEof);
        assert_eq!(heard(&with_proof(b"q\xff\xff\xff\xff")).await, io::ErrorKind::InvalidData);
        assert_eq!(heard(&with_proof(b"q\0\0\0\x09abc")).await, io::ErrorKind::UnexpectedEof);
        assert_eq!(heard(&with_proof(b"a\0\0\0\0")).await, io::ErrorKind::InvalidData);
        // Even from one who knows the token.
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 10);
        let speak = async {
            let mut greeting = [0; COMMANDS.magic.len() + CHALLENGE];
            theirs.read_exact(&mut greeting).await.unwrap();
            let challenge: [u8; CHALLENGE] = greeting[COMMANDS.magic.len()..].try_into().unwrap();
            let content = b"{\"run\":\"\xff\"}";
            theirs.write_all(&token().prove(COMMANDS.purpose, &challenge, content)).await.unwrap();
            write_frame(&mut theirs, b'q', content).await.unwrap();
        };
        let token = token();
        let ((), received) = tokio::join!(speak, COMMANDS.receive::<Request>(&mut ours, &token));
        assert_eq!(received.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn frames_are_read_back() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let answers = [
            Answer::Accepted,
            Answer::Refused("no such program".to_owned()),
            Answer::Out(vec![0, 255]),
            Answer::Err(Vec::new()),
            Answer::Ended(137),
            Answer::Leaving,
        ];
        for answer in &answers {
            write_answer(&mut theirs, answer).await.unwrap();
            assert_eq!(read_answer(&mut ours).await.unwrap().as_ref(), Some(answer));
        }
        let ended = Ended {
            cause: Cause::Exited(3),
            rank: Some(0),
            message: "the program ended with exit code 3".to_owned(),
            last_lines: vec!["é".repeat(4096); 20],
            machine_leaves: true,
        };
        write_end(&mut theirs, &ended).await.unwrap();
        assert_eq!(read_end(&mut ours).await.unwrap(), Some(ended));
        write_frame(&mut theirs, b'x', b"{}").await.unwrap();
        assert!(read_end(&mut ours).await.is_err());
        write_frame(&mut theirs, b'x', b"12").await.unwrap();
        assert!(read_answer(&mut ours).await.is_err());
        drop(theirs);
        assert_eq!(read_answer(&mut ours).await.unwrap(), None);
    }
}
