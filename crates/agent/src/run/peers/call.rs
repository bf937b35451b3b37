//! Asks other workers for chunks.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use trainyard_checkpoint::{Asked, Hash, Peers, Refusal, Terms};

use super::super::token::Token;
use super::message::{Answer, CHUNKS, Request, hashes, read_answer, read_content};

/// Bytes of the longest list of hashes: of a checkpoint of 16 TiB in chunks of 16 MiB.
const LONGEST_LIST: u64 = 32 << 20;

/// The other workers, by their hosts and ports.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) workers: Vec<(String, u16)>,
    pub(super) token: Token,
}

impl Peers for Callers {
    fn chunk(&self, worker: u32, hash: Hash, bytes: u64, terms: Terms) -> Asked<'_, Bytes> {
        Box::pin(async move {
            let waits = !terms.wait.is_zero();
            let request = Request::Chunk { sha256: hash.to_string(), waits };
            let mut stream = self.connect(worker, &request, terms).await?;
            let length = self.content(&mut stream, terms).await?;
            if length != bytes {
                return Err(failed("it has a chunk of another length"));
            }
            let content = read_content(&mut stream, length);
            in_time(terms.transfer, "it sends too slowly", content).await.map(Bytes::from)
        })
    }

    fn held(&self, worker: u32, terms: Terms) -> Asked<'_, Vec<Hash>> {
        Box::pin(async move {
            let mut stream = self.connect(worker, &Request::Held, terms).await?;
            let length = self.content(&mut stream, terms).await?;
            if length > LONGEST_LIST {
                return Err(failed("its list is too long"));
            }
            let content = read_content(&mut stream, length);
            let content = in_time(terms.transfer, "it sends too slowly", content).await?;
            Ok(hashes(&content))
        })
    }
}

impl Callers {
    async fn connect(
        &self,
        worker: u32,
        request: &Request,
        terms: Terms,
    ) -> Result<TcpStream, Refusal> {
        let place = usize::try_from(worker).ok().and_then(|at| self.workers.get(at));
        let (host, port) = place.ok_or(Refusal::Absent)?;
        let connected = timeout(terms.connect, TcpStream::connect((host.as_str(), *port))).await;
        let Ok(Ok(mut stream)) = connected else { return Err(Refusal::Absent) };
        let _ = stream.set_nodelay(true);
        let sent = CHUNKS.send(&mut stream, &self.token, request);
        in_time(terms.connect, "it does not greet", sent).await?;
        Ok(stream)
    }

    /// Waits for what was asked, and tells its length.
    async fn content(&self, stream: &mut TcpStream, terms: Terms) -> Result<u64, Refusal> {
        let until = Instant::now() + terms.wait.max(terms.silence);
        loop {
            let answer = in_time(terms.silence, "it says nothing", read_answer(stream));
            match timeout_at(until, answer).await.map_err(|_| Refusal::Late)?? {
                Answer::Wait => {}
                Answer::Nothing => return Err(Refusal::NotHeld),
                Answer::Content(length) => return Ok(length),
            }
        }
    }
}

async fn in_time<T>(
    within: Duration,
    otherwise: &str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Refusal> {
    match timeout(within, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Refusal::Failed(error.to_string())),
        Err(_) => Err(failed(otherwise)),
    }
}

fn failed(why: &str) -> Refusal {
    Refusal::Failed(why.to_owned())
}
