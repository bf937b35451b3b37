//! Waits until every worker is ready, so that no program has to.
//!
//! Workers start as nodes have room and images, and restore and fetch for as long as that takes.
//! Frameworks wait a few minutes at most for the others, take a connection that is refused for a sign to
//! try again, and a name that nobody knows for a mistake. A pod has a name from when it has an address,
//! long before its program runs, and none when it has ended: so each agent says how far it is ([`Stage`]).

mod server;

use std::fmt;
use std::io::ErrorKind;
use std::mem::discriminant;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ask::ask;
use server::{Server, Word};

/// Where an agent says its [`Stage`], beside its metrics.
pub(super) const PATH: &str = "/stage";
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// A resolver that is not reached gives up by itself, but only after many times this.
const LOOKUP: Duration = Duration::from_secs(5);
/// The system is asked at every such look, whatever the name server says: it may know a name from
/// elsewhere, such as a file. Not more often, since the server keeps in mind that it knew no answer.
const SYSTEM_EVERY: u32 = 30;
/// Where the system says how it asks for names.
const RESOLVER: &str = "/etc/resolv.conf";
/// Who has a name and cannot be asked for so long, as behind a policy of somebody else's, counts as ready.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// Others find a worker by its name in this time, with a name server that keeps in mind for 30 s that it
/// knew no answer, as with kubeadm's settings.
const NAME_SEEN_WITHIN: Duration = Duration::from_secs(40);
/// All were ready when this worker's program was started: the others see that within a few looks.
const LONGEST_STAY: Duration = Duration::from_secs(60);
/// So many questions in a row without an answer, and a worker has ended.
const MOST_FAILURES: u32 = 3;

/// Whom to wait for.
#[derive(Debug, Clone)]
pub struct Gathering {
    pub hosts: Vec<String>,
    /// The port of each agent's metrics; none if there are none, and then a name is all that is waited for.
    pub port: Option<u16>,
    /// For how long nothing may be seen of one of them.
    pub within: Duration,
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// It restores its checkpoint, or fetches what it reads.
    #[default]
    Preparing,
    /// It waits for the others.
    Ready,
    /// All were ready, and its program was started.
    Started,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Preparing, Self::Ready, Self::Started];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Started => "started",
        }
    }
}

/// What is seen of a worker.
#[derive(Debug, PartialEq)]
enum Look {
    /// It has no name.
    Absent,
    /// Nothing but a name is asked for.
    HasName,
    At(SocketAddr, Stage),
    /// It has a name, and its agent does not say how far it is.
    Silent(Silence),
}

/// Why an agent does not say how far it is.
#[derive(Debug, PartialEq)]
enum Silence {
    /// Nobody listens there: it does not run yet, or has ended.
    Refused,
    Other(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("its agent does not listen there"),
            Self::Other(error) => write!(f, "its agent cannot be asked ({error})"),
        }
    }
}

/// All were there.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Who says how far it is.
    asked: Vec<SocketAddr>,
    /// When the others have seen this worker by its name; none where none has to.
    named_until: Option<Instant>,
}

impl Gathering {
    /// Returns once all are ready; else says who was missing for too long. Cancel-safe.
    pub(super) async fn complete(&self) -> Result<Gathered, String> {
        let settings = tokio::fs::read_to_string(RESOLVER).await.unwrap_or_default();
        self.complete_by(Server::from(&settings).as_ref()).await
    }

    async fn complete_by(&self, server: Option<&Server>) -> Result<Gathered, String> {
        let mut seen = Instant::now();
        let mut has_told = None;
        // Of which kind a silence is, and since when it lasts.
        let mut silent = None;
        let (mut asked, mut has_silent) = (Vec::new(), false);
        for host in &self.hosts {
            for looks in 1.. {
                let look = self.look(host, server, looks).await;
                if look != Look::Absent {
                    seen = Instant::now();
                }
                let why = match look {
                    Look::At(address, Stage::Ready | Stage::Started) => {
                        asked.push(address);
                        silent = None;
                        break;
                    }
                    Look::HasName => {
                        has_silent |= host.parse::<IpAddr>().is_err();
                        break;
                    }
                    Look::At(_, Stage::Preparing) => "which restores or fetches what it needs",
                    Look::Absent => "which has no name in the network yet",
                    Look::Silent(why) => {
                        let patience = match &why {
                            Silence::Refused => self.within,
                            Silence::Other(_) => self.within.min(SILENT_FOR),
                        };
                        let kind = discriminant(&why);
                        let since = silent.filter(|(before, _)| *before == kind);
                        let (_, since) = *silent.insert(since.unwrap_or((kind, Instant::now())));
                        if since.elapsed() >= patience {
                            eprintln!("trainyard: takes the worker {host} for ready: {why}");
                            has_silent = true;
                            break;
                        }
                        "whose agent does not say how far it is"
                    }
                };
                if seen.elapsed() >= self.within {
                    return Err(format!(
                        "the worker `{host}` has no name in the network after {} s: it did not start, or names are not resolved here",
                        self.within.as_secs()
                    ));
                }
                if has_told.replace((host, why)) != Some((host, why)) {
                    eprintln!("trainyard: waits for the worker {host}, {why}");
                }
                sleep(PAUSE).await;
            }
        }
        let named_until = has_silent.then(|| Instant::now() + NAME_SEEN_WITHIN);
        Ok(Gathered { asked, named_until })
    }

    /// Looks for a worker, for so many times now.
    async fn look(&self, host: &str, server: Option<&Server>, looks: u32) -> Look {
        let asks_system = looks.is_multiple_of(SYSTEM_EVERY);
        if let Some(server) = server.filter(|_| !asks_system && host.parse::<IpAddr>().is_err())
            && server.ask(host).await == Some(Word::Unknown)
        {
            return Look::Absent;
        }
        let found = match timeout(LOOKUP, lookup_host((host, self.port.unwrap_or(1)))).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => return Look::Absent,
        };
        let mut seen = Look::Absent;
        for address in found {
            let Some(_) = self.port else { return Look::HasName };
            match stage_of(address).await {
                Ok(stage) => return Look::At(address, stage),
                Err(silence) => seen = Look::Silent(silence),
            }
        }
        seen
    }
}

impl Gathered {
    /// Waits until the others have seen this worker, which has finished: whoever has not would wait for
    /// one that was there and is gone. Cancel-safe.
    pub(super) async fn be_seen(self) {
        let all = async {
            for address in self.asked {
                let mut failures = 0;
                while failures < MOST_FAILURES {
                    match stage_of(address).await {
                        Ok(Stage::Started) => break,
                        Ok(_) => failures = 0,
                        Err(_) => failures += 1,
                    }
                    sleep(PAUSE / 4).await;
                }
            }
        };
        // Who cannot be asked any more has ended, and what takes longer is no fault of this worker.
        let _ = timeout(LONGEST_STAY, all).await;
        if let Some(time) = self.named_until {
            sleep_until(time).await;
        }
    }
}

async fn stage_of(address: SocketAddr) -> Result<Stage, Silence> {
    let (status, text) = match ask(address, Method::GET, PATH, None).await {
        Ok(answer) => answer,
        // Its network may be about to be there, or have just gone.
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => return Err(Silence::Refused),
            _ => return Err(Silence::Other(error.to_string())),
        },
    };
    if status != StatusCode::OK {
        return Err(Silence::Other(format!("the answer is {status}")));
    }
    let stage = Stage::ALL.into_iter().find(|stage| stage.as_str() == text.trim_end());
    stage.ok_or_else(|| Silence::Other("another program answers".to_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::run::metrics::{self, Labels};
    use crate::run::shell::Now;

    fn of(hosts: &[&str], port: Option<u16>, within: Duration) -> Gathering {
        Gathering { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), port, within }
    }

    /// An agent that says how far it is.
    struct Agent {
        port: u16,
        stage: watch::Sender<Now>,
        serves: JoinHandle<()>,
    }

    impl Agent {
        async fn at(stage: Stage) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
            let port = listener.local_addr().expect("its address").port();
            let (stage, shown) = watch::channel(Now { stage, ..Now::default() });
            let serves = tokio::spawn(metrics::serve(listener, Labels::none(), shown));
            Self { port, stage, serves }
        }

        fn is_now(&self, stage: Stage) {
            self.stage.send_modify(|now| now.stage = stage);
        }
    }

    #[tokio::test]
    async fn who_is_missing_is_told() {
        let all = of(&["127.0.0.1", "localhost"], None, Duration::ZERO);
        assert!(all.complete_by(None).await.is_ok());
        let missing = of(&["localhost", "nobody.invalid"], None, Duration::ZERO);
        let missing = missing.complete_by(None).await.unwrap_err();
        assert!(missing.starts_with("the worker `nobody.invalid` has no name"), "{missing}");
    }

    #[tokio::test]
    async fn who_was_looked_for_too_early_is_found() {
        let (address, known) = server::tests::that_forgets_nothing().await;
        let server = Server::at(address, &[]);
        let all = of(&["localhost"], None, Duration::from_secs(60));
        let (found, ()) = tokio::join!(all.complete_by(Some(&server)), async {
            sleep(PAUSE / 2).await;
            known.lock().expect("names").push("localhost".to_owned());
        });
        // Others may ask a server that has kept in mind that there is no such name.
        let left = found.expect("found").named_until.expect("a time") - Instant::now();
        assert!(left <= NAME_SEEN_WITHIN && left > NAME_SEEN_WITHIN - PAUSE, "{left:?}");
    }

    #[tokio::test]
    async fn who_prepares_is_waited_for_however_long() {
        let agent = Agent::at(Stage::Preparing).await;
        let all = of(&["127.0.0.1"], Some(agent.port), PAUSE / 2);
        let complete = all.complete_by(None);
        tokio::pin!(complete);
        assert!(timeout(PAUSE * 2, &mut complete).await.is_err());
        agent.is_now(Stage::Ready);
        let gathered = complete.await.expect("ready");
        assert_eq!(gathered.named_until, None);
        // It has not seen this worker yet, which stays for as long.
        let be_seen = gathered.be_seen();
        tokio::pin!(be_seen);
        assert!(timeout(PAUSE, &mut be_seen).await.is_err());
        agent.is_now(Stage::Started);
        be_seen.await;
        // One that is gone had seen it.
        let gathered = all.complete_by(None).await.expect("started");
        agent.serves.abort();
        gathered.be_seen().await;
    }

    #[tokio::test]
    async fn who_does_not_say_how_far_it_is_counts_as_ready_in_the_end() {
        let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let port = deaf.local_addr().expect("its address").port();
        let accepts = tokio::spawn(async move { while deaf.accept().await.is_ok() {} });
        let all = of(&["127.0.0.1"], Some(port), PAUSE / 2);
        let look = all.look("127.0.0.1", None, 1).await;
        assert!(matches!(look, Look::Silent(Silence::Other(_))), "{look:?}");
        accepts.abort();
        let _ = accepts.await;
        assert_eq!(all.look("127.0.0.1", None, 1).await, Look::Silent(Silence::Refused));
        let gathered = all.complete_by(None).await.expect("taken for ready");
        assert!(
            gathered.named_until.is_some_and(|time| time > Instant::now())
                && gathered.asked.is_empty()
        );
        assert_eq!(of(&[], None, PAUSE).look("nobody.invalid", None, 1).await, Look::Absent);
    }
}
