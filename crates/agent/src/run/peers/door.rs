//! Gives the other workers what this one has. One task, which owns one for each connection.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trainyard_checkpoint::{Hash, Held, Look, Offer};

use super::super::token::Token;
use super::message::{Answer, CHUNKS, Request, write_answer};

/// Connections at a time; more wait to be accepted. As many as a large gang asks for at once, and
/// few enough that one process may have so many files.
const MOST_CONNECTIONS: usize = 256;
/// Chunks that are sent at a time; others wait. Each takes one piece of memory.
const MOST_SENT: usize = 16;
/// Read from the disk and sent at once.
const PIECE: u64 = 512 << 10;
/// A stranger has so long to show that it knows the token.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who takes no piece for so long is not there any more.
const STUCK: Duration = Duration::from_secs(10);
/// Who waits hears so often that this worker is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A worker that gets nothing for so long keeps nobody waiting.
const STANDSTILL: Duration = Duration::from_secs(15);

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, token: Token, offer: Arc<Offer>) {
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let sent = Arc::new(Semaphore::new(MOST_SENT));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(connection) = connections.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: wait for some to be closed.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (token, offer, sent) = (token.clone(), offer.clone(), sent.clone());
        tasks.spawn(async move {
            // Who breaks off asks elsewhere.
            let _ = serve_one(stream, &token, &offer, &sent).await;
            drop(connection);
        });
    }
}

async fn serve_one(
    mut stream: TcpStream,
    token: &Token,
    offer: &Offer,
    sent: &Arc<Semaphore>,
) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let received = CHUNKS.receive(&mut stream, token);
    let request = timeout(PATIENCE, received).await.map_err(|_| late())??;
    let Some(request) = request else {
        return say(&mut stream, Answer::Nothing).await;
    };
    match request {
        Request::Held => {
            let list: Vec<u8> = offer.held().into_iter().flat_map(|hash| hash.0).collect();
            say(&mut stream, Answer::Content(list.len() as u64)).await?;
            timeout(STUCK, stream.write_all(&list)).await.map_err(|_| late())?
        }
        Request::Chunk { sha256, waits } => {
            let Some(hash) = Hash::parse(&sha256) else {
                return say(&mut stream, Answer::Nothing).await;
            };
            let Some(held) = await_chunk(&mut stream, offer, hash, waits).await? else {
                return say(&mut stream, Answer::Nothing).await;
            };
            let _turn = await_turn(&mut stream, sent).await?;
            send(&mut stream, held).await
        }
    }
}

async fn say(stream: &mut TcpStream, answer: Answer) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(STUCK, write_answer(stream, answer)).await.map_err(late)?
}

/// Where a chunk is, once it is; none if there is no point in waiting.
async fn await_chunk(
    stream: &mut TcpStream,
    offer: &Offer,
    hash: Hash,
    waits: bool,
) -> io::Result<Option<Held>> {
    let mut gained = offer.gained();
    let mut until = Instant::now() + STANDSTILL;
    loop {
        match offer.look(hash) {
            Look::Held(held) => return Ok(Some(held)),
            Look::Unknown => return Ok(None),
            Look::Pending if !waits || Instant::now() >= until => return Ok(None),
            Look::Pending => {}
        }
        match timeout(SIGN_OF_LIFE, gained.changed()).await {
            Ok(_) => until = Instant::now() + STANDSTILL,
            Err(_) => say(stream, Answer::Wait).await?,
        }
    }
}

async fn await_turn(
    stream: &mut TcpStream,
    sent: &Arc<Semaphore>,
) -> io::Result<OwnedSemaphorePermit> {
    let mut turn = std::pin::pin!(sent.clone().acquire_owned());
    loop {
        match timeout(SIGN_OF_LIFE, &mut turn).await {
            Ok(turn) => return turn.map_err(io::Error::other),
            Err(_) => say(stream, Answer::Wait).await?,
        }
    }
}

/// Sends a chunk piece by piece. A file that is not there any more, or has become shorter, ends the
/// connection early.
async fn send(stream: &mut TcpStream, held: Held) -> io::Result<()> {
    let opened = held.clone();
    let file = blocking(move || opened.open()).await;
    let Ok(file) = file else {
        return say(stream, Answer::Nothing).await;
    };
    let file = Arc::new(file);
    say(stream, Answer::Content(held.bytes)).await?;
    let mut done = 0;
    while done < held.bytes {
        let length = (held.bytes - done).min(PIECE);
        let (file, at) = (file.clone(), held.at.saturating_add(done));
        let piece = blocking(move || {
            let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut piece, at).map(|()| piece)
        })
        .await?;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        timeout(STUCK, stream.write_all(&piece)).await.map_err(late)??;
        done = done.saturating_add(length);
    }
    stream.shutdown().await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
