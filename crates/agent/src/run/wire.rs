//! How agents greet each other on a TCP connection, and the frames that they send.
//!
//! The listener begins with the protocol's name and a challenge; who connects answers with a proof
//! that it knows the token, and its one request, which the proof is of. After that both send frames: a
//! kind, a length of four bytes with the highest first, and so much content.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::token::{CHALLENGE, PROOF, Token, challenge};

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protocol {
    /// Its name and version.
    pub(super) magic: [u8; 8],
    /// What a proof is for, so that none is of use elsewhere.
    pub(super) purpose: &'static [u8],
    /// Bytes of the longest request.
    pub(super) longest_request: usize,
}

impl Protocol {
    /// Greets whoever connects, and takes its request. None if it does not know the token.
    pub(super) async fn receive<R: DeserializeOwned>(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        token: &Token,
    ) -> io::Result<Option<R>> {
        let challenge = challenge()?;
        let mut greeting = self.magic.to_vec();
        greeting.extend_from_slice(&challenge);
        stream.write_all(&greeting).await?;
        let mut proof = [0; PROOF];
        stream.read_exact(&mut proof).await?;
        let Some((b'q', content)) = read_frame(stream, self.longest_request).await? else {
            return Err(not_understood());
        };
        if !token.believes(&proof, self.purpose, &challenge, &content) {
            return Ok(None);
        }
        serde_json::from_slice(&content).map(Some).map_err(|_| not_understood())
    }

    /// Answers a listener's greeting with a request.
    pub(super) async fn send<R: Serialize>(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        token: &Token,
        request: &R,
    ) -> io::Result<()> {
        let mut magic = [0; 8];
        stream.read_exact(&mut magic).await?;
        if magic != self.magic {
            return Err(not_understood());
        }
        let mut challenge = [0; CHALLENGE];
        stream.read_exact(&mut challenge).await?;
        let content = serde_json::to_vec(request).map_err(io::Error::other)?;
        if content.len() > self.longest_request {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the request is too long"));
        }
        stream.write_all(&token.prove(self.purpose, &challenge, &content)).await?;
        write_frame(stream, b'q', &content).await
    }
}

pub(super) fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other side is no agent of this version")
}

pub(super) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    longest: usize,
) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    if from.read(head.get_mut(..1).unwrap_or_default()).await? == 0 {
        return Ok(None);
    }
    from.read_exact(head.get_mut(1..).unwrap_or_default()).await?;
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length);
    if usize::try_from(length).is_ok_and(|length| length > longest) {
        return Err(not_understood());
    }
    // Memory is taken for what comes, and not for what was announced.
    let mut content = Vec::new();
    from.take(length.into()).read_to_end(&mut content).await?;
    if content.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((kind, content)))
}

pub(super) async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    content: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(content.len().saturating_add(5));
    frame.push(kind);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(content);
    to.write_all(&frame).await?;
    to.flush().await
}
