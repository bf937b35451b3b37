//! What agents say to each other about chunks of checkpoints.
//!
//! After the greeting ([`wire`](super::super::wire)) the listener sends frames: `w` while who asks
//! has to wait, `n` if there is nothing to be had, or `c` with a length of eight bytes, the highest
//! first; so many bytes follow, and the connection ends.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use trainyard_checkpoint::Hash;

use super::super::wire::{Protocol, not_understood, read_frame, write_frame};

pub(super) const CHUNKS: Protocol = Protocol {
    magic: *b"typeers1",
    purpose: b"trainyard checkpoint chunk 1",
    longest_request: 1024,
};
/// Of what listeners say.
const LONGEST_FRAME: usize = 64;

/// What whoever connects wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Request {
    /// A chunk by its hash. With `waits`, also one that is still on its way.
    #[serde(rename_all = "camelCase")]
    Chunk { sha256: String, waits: bool },
    /// The hashes of all chunks that are there, 32 bytes each.
    Held,
}

/// Frames of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Wait,
    Nothing,
    /// So many bytes follow.
    Content(u64),
}

pub(super) async fn read_answer(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    match read_frame(from, LONGEST_FRAME).await? {
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some((b'w', content)) if content.is_empty() => Ok(Answer::Wait),
        Some((b'n', content)) if content.is_empty() => Ok(Answer::Nothing),
        Some((b'c', content)) => {
            let length: [u8; 8] = content.try_into().map_err(|_| not_understood())?;
            Ok(Answer::Content(u64::from_be_bytes(length)))
        }
        Some(_) => Err(not_understood()),
    }
}

pub(super) async fn write_answer(
    to: &mut (impl AsyncWrite + Unpin),
    answer: Answer,
) -> io::Result<()> {
    match answer {
        Answer::Wait => write_frame(to, b'w', &[]).await,
        Answer::Nothing => write_frame(to, b'n', &[]).await,
        Answer::Content(length) => write_frame(to, b'c', &length.to_be_bytes()).await,
    }
}

/// Reads content of exactly that length. Memory is taken for what comes.
pub(super) async fn read_content(
    from: &mut (impl AsyncRead + Unpin),
    length: u64,
) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    from.take(length).read_to_end(&mut content).await?;
    if content.len() as u64 == length {
        Ok(content)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The hashes of a list; what is left over at its end is no hash.
pub(super) fn hashes(content: &[u8]) -> Vec<Hash> {
    let chunks = content.chunks_exact(32);
    chunks.filter_map(|bytes| bytes.try_into().ok().map(Hash)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Answer> {
        read_answer(&mut &*bytes).await
    }

    #[tokio::test]
    async fn answers_are_read_back() {
        for answer in [Answer::Wait, Answer::Nothing, Answer::Content(1 << 40)] {
            let mut bytes = Vec::new();
            write_answer(&mut bytes, answer).await.unwrap();
            assert_eq!(read(&bytes).await.unwrap(), answer);
            assert!(read(&bytes[..bytes.len() - 1]).await.is_err());
        }
        for wrong in
            [&b""[..], b"c\0\0\0\x01\0", b"w\0\0\0\x01\0", b"x\0\0\0\0", b"c\xff\xff\xff\xff"]
        {
            assert!(read(wrong).await.is_err(), "{wrong:?}");
        }
        assert_eq!(read_content(&mut &b"abc"[..], 2).await.unwrap(), b"ab");
        assert!(read_content(&mut &b"abc"[..], u64::MAX).await.is_err());
        assert_eq!(hashes(&[7; 70]), [Hash([7; 32]); 2]);
    }

    proptest! {
        #[test]
        fn whatever_comes_there_is_an_answer_or_an_error(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&bytes));
            let _ = serde_json::from_slice::<Request>(&bytes);
        }
    }
}
