//! What the first worker holds of each of the others: a connection by which both learn of the other's
//! end.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::report::Ended;
use super::super::token::Token;
use super::call::connect;
use super::message::{Answer, Request, read_answer, write_end};

/// Between two tries to reach a worker.
const PAUSE: Duration = Duration::from_millis(500);
/// A worker that is told of the end understands it at once, or is gone.
const UNDERSTOOD: Duration = Duration::from_secs(5);
/// Workers that tell something at a time; more wait.
const TOLD: usize = 16;

/// What becomes known of another worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum PeerSays {
    /// It was told to end.
    Leaves,
    /// Its agent is not there any more.
    Gone { host: String },
}

/// All of them.
pub(in super::super) struct Leashes {
    tasks: JoinSet<()>,
    end: watch::Sender<Option<Ended>>,
    says: mpsc::Receiver<PeerSays>,
}

impl Leashes {
    /// Takes all other workers, each of which may not be there yet; says for people who did not come.
    pub(in super::super) async fn take(
        peers: &[(String, u16)],
        token: &Token,
        within: Duration,
    ) -> Result<Self, String> {
        let deadline = Instant::now() + within;
        let mut taking = JoinSet::new();
        for (host, port) in peers.iter().cloned() {
            let token = token.clone();
            taking.spawn(async move {
                let taken = take_one((&host, port), &token, deadline).await;
                let why = |why| format!("the worker `{host}` cannot be led: {why}");
                taken.map_err(why).map(|stream| (host, stream))
            });
        }
        let (end, ended) = watch::channel(None);
        let (say, says) = mpsc::channel(TOLD);
        let mut tasks = JoinSet::new();
        while let Some(taken) = taking.join_next().await {
            let (host, stream) = taken.map_err(|error| error.to_string())??;
            tasks.spawn(hold(host, stream, ended.clone(), say.clone()));
        }
        Ok(Self { tasks, end, says })
    }

    /// Waits for what one of them says. Cancel-safe.
    pub(in super::super) async fn next(&mut self) -> PeerSays {
        match self.says.recv().await {
            Some(says) => says,
            None => std::future::pending().await,
        }
    }

    /// Tells all of them how the program has ended, and waits until they have understood.
    pub(in super::super) async fn end(mut self, ended: Ended) {
        self.end.send_replace(Some(ended));
        self.says.close();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn take_one(
    (host, port): (&str, u16),
    token: &Token,
    deadline: Instant,
) -> Result<TcpStream, String> {
    loop {
        let failed: io::Error = match connect((host, port), token, &Request::Follow).await {
            // It answers when it has its checkpoints and data.
            Ok(mut stream) => match timeout_at(deadline, read_answer(&mut stream)).await {
                Ok(Ok(Some(Answer::Accepted))) => return Ok(stream),
                Ok(Ok(Some(Answer::Refused(why)))) => return Err(why),
                Ok(Ok(_)) => io::ErrorKind::UnexpectedEof.into(),
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            },
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(failed.to_string());
        }
        sleep(PAUSE).await;
    }
}

/// Holds one until the end of either.
async fn hold(
    host: String,
    mut stream: TcpStream,
    mut ended: watch::Receiver<Option<Ended>>,
    say: mpsc::Sender<PeerSays>,
) {
    let (mut from, mut to) = stream.split();
    loop {
        // Reading a frame cannot be cancelled in its middle: a worker says at most one before the end.
        let says = tokio::select! {
            read = read_answer(&mut from) => match read {
                Ok(Some(Answer::Leaving)) => PeerSays::Leaves,
                _ => PeerSays::Gone { host: host.clone() },
            },
            ended = known(&mut ended) => {
                let Some(ended) = ended else { return };
                let told = async {
                    write_end(&mut to, &ended).await?;
                    while let Some(answer) = read_answer(&mut from).await? {
                        if matches!(answer, Answer::Ended(_)) {
                            break;
                        }
                    }
                    io::Result::Ok(())
                };
                let _ = timeout(UNDERSTOOD, told).await;
                return;
            }
        };
        let is_gone = says != PeerSays::Leaves;
        // Nobody listens any more once the program has ended.
        let _ = say.send(says).await;
        if is_gone {
            return;
        }
    }
}

/// Waits until the end is known; none if nobody will tell it. Cancel-safe.
async fn known(ended: &mut watch::Receiver<Option<Ended>>) -> Option<Ended> {
    ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone())
}
