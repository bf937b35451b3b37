//! Takes commands of the other workers. One task, which owns one for each connection.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::{ChildStderr, ChildStdout};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::listen::listen;
use super::super::report::Ended;
use super::super::token::Token;
use super::message::{Answer, COMMANDS, Request, read_end, write_answer};
use super::print;

/// Connections that have not shown yet that they know the token. More wait until one has, or has
/// failed to.
const MOST_STRANGERS: usize = 16;
/// Commands and leaders at a time. A launcher runs one daemon on a worker.
const MOST_SESSIONS: usize = 64;
/// A stranger has so long to show it.
const PATIENCE: Duration = Duration::from_secs(10);
/// One that takes nothing of a command's output for so long is not there any more.
const STUCK: Duration = Duration::from_secs(60);
/// A command that has ended has said all by then, unless what it has started goes on to speak.
const LINGER: Duration = Duration::from_secs(1);
/// Output that is passed on at once.
const PIECE: usize = 16 << 10;
/// The exit code of a command that nobody saw the end of.
const LOST: u8 = 255;

/// What a door asks of its agent.
pub(in super::super) enum Ask {
    Run {
        command: String,
        started: oneshot::Sender<Result<Started, String>>,
    },
    /// The first worker is there, and is to be followed.
    Follow {
        following: oneshot::Sender<Result<Following, String>>,
    },
}

/// A command that runs.
pub(in super::super) struct Started {
    pub(in super::super) out: ChildStdout,
    pub(in super::super) err: ChildStderr,
    /// Its exit code, as a shell tells it.
    pub(in super::super) ended: oneshot::Receiver<u8>,
}

/// How a worker and its leader tell each other.
pub(in super::super) struct Following {
    pub(in super::super) leader: mpsc::Sender<LeaderSays>,
    /// Whether this worker was told to end.
    pub(in super::super) leaving: watch::Receiver<bool>,
}

/// What becomes known of the first worker.
#[derive(Debug)]
pub(in super::super) enum LeaderSays {
    Ended(Box<Ended>),
    Gone,
}

/// Listens where the others expect this worker: at the address that is its host, or at all of this
/// machine, whose name is no affair of ours.
pub(in super::super) async fn open((host, port): &(String, u16)) -> io::Result<TcpListener> {
    let address = host.parse::<IpAddr>().unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    listen(SocketAddr::new(address, *port)).await
}

/// Serves until it is dropped.
pub(in super::super) async fn serve(listener: TcpListener, token: Token, asks: mpsc::Sender<Ask>) {
    let strangers = Arc::new(Semaphore::new(MOST_STRANGERS));
    let sessions = Arc::new(Semaphore::new(MOST_SESSIONS));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(stranger) = strangers.clone().acquire_owned().await else { return };
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of descriptors: wait for some to be closed.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (token, asks, sessions) = (token.clone(), asks.clone(), sessions.clone());
        tasks.spawn(async move {
            let received = timeout(PATIENCE, COMMANDS.receive(&mut stream, &token)).await;
            drop(stranger);
            let refused = |why: &str| Answer::Refused(why.to_owned());
            let answer = match received {
                Ok(Ok(Some(request))) => match sessions.try_acquire_owned() {
                    Ok(_session) => return serve_one(stream, request, asks).await,
                    Err(_) => refused("the worker runs too many commands already"),
                },
                Ok(Ok(None)) => refused("the token is another one"),
                // Whoever speaks another language would not understand an answer.
                Ok(Err(_)) | Err(_) => return,
            };
            let _ = timeout(PATIENCE, write_answer(&mut stream, &answer)).await;
        });
    }
}

async fn serve_one(mut stream: TcpStream, request: Request, asks: mpsc::Sender<Ask>) {
    // Frames are whole, and somebody waits for each.
    let _ = stream.set_nodelay(true);
    let why = match request {
        Request::Run(command) => {
            let (started, answer) = oneshot::channel();
            let asked = asks.send(Ask::Run { command, started }).await;
            match (asked, answer.await) {
                (Ok(()), Ok(Ok(started))) => return pass_on(stream, started).await,
                (Ok(()), Ok(Err(why))) => why,
                _ => "the worker is about to end".to_owned(),
            }
        }
        Request::Follow => {
            let (following, answer) = oneshot::channel();
            let asked = asks.send(Ask::Follow { following }).await;
            match (asked, answer.await) {
                (Ok(()), Ok(Ok(following))) => return follow(stream, following).await,
                (Ok(()), Ok(Err(why))) => why,
                _ => "the worker is about to end".to_owned(),
            }
        }
    };
    let _ = timeout(PATIENCE, write_answer(&mut stream, &Answer::Refused(why))).await;
}

/// Passes a command's output and its end on to who asked for it; to this agent's own output once
/// nobody is there any more, since what a daemon prints then is worth a look, and a closed pipe would
/// end it.
async fn pass_on(stream: TcpStream, started: Started) {
    let Ok(mut out) = tokio::process::ChildStdout::from_std(started.out) else { return };
    let Ok(mut err) = tokio::process::ChildStderr::from_std(started.err) else { return };
    let (mut from, to) = stream.into_split();
    let mut caller = Caller(Some(to));
    caller.tell(&Answer::Accepted).await;
    let mut ended = started.ended;
    let (mut out_piece, mut err_piece) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut has_out, mut has_err, mut is_listening) = (true, true, true);
    let (mut code, mut until) = (None, Instant::now());
    let mut unread = [0; 1];
    while has_out || has_err || code.is_none() {
        tokio::select! {
            read = out.read(&mut out_piece), if has_out => match piece(read, &out_piece) {
                Some(bytes) => caller.pass(Answer::Out(bytes)).await,
                None => has_out = false,
            },
            read = err.read(&mut err_piece), if has_err => match piece(read, &err_piece) {
                Some(bytes) => caller.pass(Answer::Err(bytes)).await,
                None => has_err = false,
            },
            seen = &mut ended, if code.is_none() => {
                code = Some(seen.unwrap_or(LOST));
                until = Instant::now() + LINGER;
            }
            // It says nothing more; its end is the end of the connection.
            read = from.read(&mut unread), if is_listening => if !matches!(read, Ok(1..)) {
                is_listening = false;
                caller.0 = None;
            },
            () = sleep_until(until), if code.is_some() && caller.0.is_some() => {
                caller.end(code).await;
            }
        }
    }
    caller.end(code).await;
}

fn piece(read: io::Result<usize>, buffer: &[u8]) -> Option<Vec<u8>> {
    let length = read.ok().filter(|length| *length > 0)?;
    buffer.get(..length).map(<[u8]>::to_vec)
}

/// Who has asked for a command, while it is there.
struct Caller(Option<OwnedWriteHalf>);

impl Caller {
    async fn tell(&mut self, answer: &Answer) {
        if let Some(to) = &mut self.0
            && !matches!(timeout(STUCK, write_answer(to, answer)).await, Ok(Ok(())))
        {
            self.0 = None;
        }
    }

    async fn pass(&mut self, output: Answer) {
        if self.0.is_some() {
            return self.tell(&output).await;
        }
        print(output).await;
    }

    async fn end(&mut self, code: Option<u8>) {
        self.tell(&Answer::Ended(code.unwrap_or(LOST))).await;
        if let Some(mut to) = self.0.take() {
            let _ = timeout(PATIENCE, to.shutdown()).await;
        }
    }
}

/// Waits for what the first worker says, until that ends or is gone.
async fn follow(stream: TcpStream, following: Following) {
    let (mut from, mut to) = stream.into_split();
    let Following { leader, mut leaving } = following;
    let says = {
        let mut end = std::pin::pin!(told_end(&mut from));
        let mut has_told = false;
        if write_answer(&mut to, &Answer::Accepted).await.is_err() {
            LeaderSays::Gone
        } else {
            loop {
                tokio::select! {
                    says = &mut end => break says,
                    Ok(is_leaving) = changed(&mut leaving), if !has_told => if is_leaving {
                        has_told = true;
                        let _ = timeout(PATIENCE, write_answer(&mut to, &Answer::Leaving)).await;
                    },
                }
            }
        }
    };
    let is_end = matches!(says, LeaderSays::Ended(_));
    if leader.send(says).await.is_ok() && is_end {
        let _ = timeout(PATIENCE, write_answer(&mut to, &Answer::Ended(0))).await;
    }
}

async fn told_end(from: &mut (impl AsyncRead + Unpin)) -> LeaderSays {
    match read_end(from).await {
        Ok(Some(ended)) => LeaderSays::Ended(Box::new(ended)),
        Ok(None) | Err(_) => LeaderSays::Gone,
    }
}

/// Waits until it is true. Cancel-safe.
async fn changed(flag: &mut watch::Receiver<bool>) -> Result<bool, watch::error::RecvError> {
    flag.wait_for(|value| *value).await.map(|value| *value)
}
