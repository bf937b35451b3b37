//! Carries out: signals, children, the clock and the files of one agent.

mod peers;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::course::{Cause, Course, Exit, Happened, Order};
use super::data;
use super::gathering::Stage;
use super::keeping::Keeping;
use super::listen::listen;
use super::output::lock;
use super::pace::{Pace, Remark};
use super::processes::{Processes, now};
use super::progress::{Beat, Progress};
use super::remote::{self, LeaderSays, Leashes, PeerSays};
use super::report::{Ended, Report};
use super::{Role, Settings, metrics, notice};

/// How often the heartbeat is looked at and the report written.
const TICK: Duration = Duration::from_millis(500);
/// A program that has finished waits so long for its last checkpoint to be durable.
const LAST_FLUSH: Duration = Duration::from_secs(600);
/// However little of the grace is left, a flush is tried.
const LEAST_FLUSH: Duration = Duration::from_secs(5);
/// After a failure the others wait to start again, so that it does not take longer than this.
const FLUSH_AFTER_FAILURE: Duration = Duration::from_secs(30);
/// Workers that lead or are led find each other in this time, where nothing else was said.
const GATHER: Duration = Duration::from_secs(120);
/// Commands of other workers that wait to be started; more wait in their connections.
const WAITING: usize = 16;
/// Why there is nothing to tell of a program.
const TOO_EARLY: &str = "it was told to end before its program was started";
/// The variable with the file that changes whenever the program is asked for a checkpoint.
const REQUEST: &str = "TRAINYARD_CHECKPOINT_REQUEST_FILE";
/// Bytes of a heartbeat file that are read.
const HEARTBEAT: u64 = 4096;

/// What is shown of an agent while it runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Now {
    pub(super) stage: Stage,
    pub(super) report: Report,
    /// Since progress was seen last, or since the start.
    pub(super) silent_for: Duration,
    /// Of the program's time, what is in no durable checkpoint; none on workers that bring none to a store.
    pub(super) at_risk: Option<Duration>,
}

/// Runs the program to its end, and gives what the agent should tell and leave with.
///
/// To be called from a runtime of this thread that has signals and time. An error means that the
/// agent itself could not work, and no process is left.
pub async fn run(settings: Settings) -> io::Result<Ended> {
    // Before anything is started: a signal that comes in between is not lost.
    let mut signals = Signals::new()?;
    let mut child = signal(SignalKind::child())?;
    let earlier = settings.report.as_deref().and_then(Report::read);
    let kept = earlier.and_then(|report| report.kept);
    let progress = Arc::new(Mutex::new(Progress::new(now(), kept)));
    let (show, shown) = watch::channel(Now::default());
    let mut report = Report { attempt: settings.attempt, kept, ..Report::default() };
    let mut tasks = JoinSet::new();
    if let Some(address) = settings.metrics {
        let labels = metrics::Labels::of(&settings);
        let listener = listen(address).await?;
        report.metrics = Some(listener.local_addr()?);
        tasks.spawn(metrics::serve(listener, labels, shown));
    }
    let (tell, mut noticed) = watch::channel(None);
    if let Some(cloud) = settings.cloud {
        tasks.spawn(notice::look(cloud, settings.metadata, tell));
    }
    let (ask, mut asks) = mpsc::channel(WAITING);
    if let Some(remote) = &settings.remote {
        let listener = remote::open(&remote.own).await?;
        tasks.spawn(remote::serve(listener, remote.token.clone(), ask));
    }
    if let Some(folder) = settings.heartbeat.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let _ = std::fs::remove_file(&settings.heartbeat);
    let request = settings.request_file();
    if let Some(request) = &request {
        let _ = std::fs::remove_file(request);
    }
    write(&settings, &report);

    let keeping = match &settings.store {
        Some(store) => tokio::select! {
            begun = Keeping::begin(store.clone(), settings.peers.as_ref()) => Some(begun?),
            () = signals.end() => {
                let ended = Ended {
                    cause: Cause::Interrupted,
                    rank: None,
                    message: TOO_EARLY.to_owned(),
                    last_lines: Vec::new(),
                    machine_leaves: false,
                };
                report.ended = Some(ended.clone());
                write(&settings, &report);
                return Ok(ended);
            }
        },
        None => None,
    };
    let within = settings.gathering.as_ref().map_or(GATHER, |gathering| gathering.within);
    let ready = async {
        let variables = settings.data.gather().await?;
        show.send_modify(|now| now.stage = Stage::Ready);
        let failed = |message| (Cause::Exited(1), message);
        let gathered = match &settings.gathering {
            Some(gathering) => Some(gathering.complete().await.map_err(failed)?),
            None => None,
        };
        let leashes = match &settings.remote {
            Some(it) => match &it.role {
                Role::Leads(peers) => Leashes::take(peers, &it.token, within).await.map(Some),
                Role::Follows => Ok(None),
            },
            None => Ok(None),
        };
        Ok((variables, gathered, leashes.map_err(failed)?))
    };
    let ready = tokio::select! {
        ready = ready => ready,
        () = signals.end() => Err((Cause::Interrupted, TOO_EARLY.to_owned())),
    };
    let (mut variables, gathered, mut leashes) = match ready {
        Ok(ready) => ready,
        Err((cause, message)) => {
            if let Some(keeping) = keeping {
                keeping.end().await;
            }
            let ended =
                Ended { cause, rank: None, message, last_lines: Vec::new(), machine_leaves: false };
            report.ended = Some(ended.clone());
            write(&settings, &report);
            return Ok(ended);
        }
    };
    show.send_modify(|now| now.stage = Stage::Started);
    let command = data::expanded(&settings.command, &variables);
    // The time that store and others have taken is not the program's.
    *lock(&progress) = Progress::new(now(), kept);
    variables.extend(keeping.iter().flat_map(|it| it.variables.iter().cloned()));
    variables.extend(request.as_ref().map(|path| (REQUEST.into(), path.into())));
    let processes = match Processes::start(&settings, &command, &variables, &progress) {
        Ok(processes) => processes,
        Err((exit, message)) => {
            let ended = Ended {
                cause: exit.cause,
                rank: Some(exit.rank),
                message,
                last_lines: Vec::new(),
                machine_leaves: false,
            };
            if let Some(leashes) = leashes {
                leashes.end(ended.clone()).await;
            }
            report.ended = Some(ended.clone());
            write(&settings, &report);
            return Ok(ended);
        }
    };
    let (leader, mut leader_says) = mpsc::channel(1);
    if let Some(remote) = &settings.remote {
        variables.splice(0..0, remote.commands.variables.iter().cloned());
    }
    let mut agent = Agent {
        leader: Some(leader).filter(|_| settings.is_led()),
        leaving: watch::Sender::new(false),
        variables,
        why: None,
        lost: None,
        course: Course::new(settings.checkpoint.map(|checkpoint| checkpoint.grace)),
        begun: Instant::now(),
        beat_at: None,
        pace: Pace::new(settings.checkpoint.and_then(|it| it.interval), now()),
        requests: 0,
        request: request.as_deref(),
        settings: &settings,
        keeping,
        asked: None,
        processes,
        progress,
        report,
        show,
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !agent.is_done() {
        let next = agent.course.next_at().map(|at| agent.begun + at);
        let led_at = agent.leader.as_ref().map(|_| agent.begun + within);
        tokio::select! {
            sent = signals.next() => agent.on_signal(sent),
            _ = child.recv() => {}
            _ = tick.tick() => agent.on_tick(),
            Ok(()) = noticed.changed() => agent.on_notice(noticed.borrow_and_update().clone()),
            () = at(next) => agent.decide(Happened::TimePassed),
            Some(ask) = asks.recv() => agent.on_ask(ask),
            Some(says) = leader_says.recv() => agent.on_leader(says),
            says = next_of(&mut leashes) => agent.on_peer(says),
            () = at(led_at) => agent.on_nobody(within),
        }
        agent.collect();
    }
    if let Some(leashes) = leashes {
        leashes.end(agent.outcome()).await;
    }
    agent.processes.clear().await;
    agent.flush(&mut signals).await;
    let ended = agent.ended().await;
    if let Some(gathered) = gathered.filter(|_| ended.cause == Cause::Finished) {
        tokio::select! {
            () = gathered.be_seen() => {}
            () = signals.end() => {}
        }
    }
    tasks.shutdown().await;
    for file in [Some(settings.heartbeat), request].into_iter().flatten() {
        let _ = std::fs::remove_file(file);
    }
    Ok(ended)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn next_of(leashes: &mut Option<Leashes>) -> PeerSays {
    match leashes {
        Some(leashes) => leashes.next().await,
        None => std::future::pending().await,
    }
}

fn write(settings: &Settings, report: &Report) {
    let Some(path) = &settings.report else { return };
    // A disk that is full must not end a training that could go on.
    if let Err(error) = report.write(path) {
        eprintln!("trainyard: cannot write the report `{}`: {error}", path.display());
    }
}

struct Agent<'a> {
    settings: &'a Settings,
    keeping: Option<Keeping>,
    /// How it was told to end.
    asked: Option<Asked>,
    course: Course,
    begun: Instant,
    /// When the heartbeat file was written last, as its file system says.
    beat_at: Option<std::time::SystemTime>,
    pace: Pace,
    /// How often the program was asked for a checkpoint and to go on, and by which file; none if it never is.
    requests: u64,
    request: Option<&'a Path>,
    processes: Processes,
    progress: Arc<Mutex<Progress>>,
    report: Report,
    show: watch::Sender<Now>,
    /// What commands of other workers find in their environment.
    variables: Vec<(OsString, OsString)>,
    /// For who leads this worker, until it has come; none where nobody does.
    leader: Option<mpsc::Sender<LeaderSays>>,
    /// Whether this worker was told to end.
    leaving: watch::Sender<bool>,
    /// The newest checkpoint that did not get into the store, and why.
    lost: Option<(String, String)>,
    /// Why it ends, in words and with what was printed last, where another worker is the cause.
    why: Option<(String, Vec<String>)>,
}

impl Agent<'_> {
    /// Whether nothing is left to wait for: a worker that is led has no program of its own.
    fn is_done(&self) -> bool {
        match self.settings.is_led() {
            true => !self.course.is_running() && !self.processes.has_any(),
            false => self.processes.left() == 0,
        }
    }

    fn on_signal(&mut self, sent: Sent) {
        if let Sent::Terminate | Sent::Interrupt = sent {
            self.leaving.send_replace(true);
        }
        match sent {
            Sent::Terminate => {
                if let None | Some(Asked::ByNotice) = self.asked {
                    self.asked = Some(Asked::WithCheckpoint(Instant::now()));
                }
                self.decide(Happened::AskedToEnd { catches: self.catches() });
            }
            Sent::Interrupt => {
                self.asked = Some(Asked::AtOnce);
                self.decide(Happened::AskedToEndNow);
            }
            // Whoever has no handler would be ended by it, which nobody asked for.
            Sent::PassOn(signal) => self.processes.tell(signal),
        }
    }

    /// Whether the program can be asked for a checkpoint.
    fn catches(&self) -> bool {
        let checkpoint = self.settings.checkpoint;
        checkpoint.is_some_and(|checkpoint| self.processes.handle(checkpoint.signal))
    }

    fn on_notice(&mut self, notice: Option<notice::Notice>) {
        let Some(notice) = notice else { return };
        eprintln!("trainyard: {notice}");
        self.report.notice = Some(notice);
        self.ask_for_notice();
        write(self.settings, &self.report);
    }

    /// Asks the program to save, once it can be asked: the machine may be gone before anybody says more. It
    /// goes on, or leaves when it has saved.
    fn ask_for_notice(&mut self) {
        if self.report.notice.is_none() || self.asked.is_some() || !self.course.is_running() {
            return;
        }
        if self.catches() {
            self.leaving.send_replace(true);
            self.asked = Some(Asked::ByNotice);
            self.decide(Happened::AskedToSave);
        }
    }

    fn on_tick(&mut self) {
        self.look_at_heartbeat();
        self.ask_for_notice();
        let (seen, kept, silent_for) = {
            let progress = lock(&self.progress);
            (progress.seen(now()), progress.kept(), progress.silent_for(now()))
        };
        // What its processes print, and do, the first worker sees.
        let timeout = self.settings.progress_timeout.filter(|_| !self.settings.is_led());
        let hangs = timeout.is_some_and(|timeout| silent_for >= timeout);
        if hangs && self.course.is_running() {
            eprintln!("trainyard: no progress for {} s; asking for stacks", silent_for.as_secs());
            self.decide(Happened::Hung);
        }
        let before = self.report.clone();
        (self.report.seen, self.report.kept) = (seen, Some(kept));
        self.report.saved = self.keeping.as_ref().and_then(Keeping::saved);
        let at_risk = self.keep_pace();
        if self.report != before {
            write(self.settings, &self.report);
        }
        let stage = Stage::Started;
        self.show.send_replace(Now { stage, report: self.report.clone(), silent_for, at_risk });
    }

    /// Asks the program for a checkpoint, if it is time. Gives what of its time is in no durable one.
    fn keep_pace(&mut self) -> Option<Duration> {
        self.settings.part()?;
        let (found, durable) = self.keeping.as_ref()?.begun();
        let now = now();
        if self.report.seen.is_some() {
            self.pace.is_going(now);
        }
        if let Some(begun) = found {
            self.pace.found(begun);
        }
        if let Some(begun) = durable {
            self.pace.is_durable(begun, now);
        }
        let at_risk = Some(self.pace.at_risk(now));
        let Some(file) = self.request.filter(|_| self.asked.is_none() && self.course.is_running())
        else {
            return at_risk;
        };
        if self.pace.asks(now) {
            self.requests = self.requests.saturating_add(1);
            // On a full disk no checkpoint would fit either.
            if let Err(error) = std::fs::write(file, format!("{}\n", self.requests)) {
                eprintln!(
                    "trainyard: cannot ask for a checkpoint by `{}`: {error}",
                    file.display()
                );
            }
        }
        match self.pace.remark(now) {
            None => {}
            Some(Remark::NoAnswer) => eprintln!(
                "trainyard: the program was asked for a checkpoint and has written none: `checkpoint.interval` is for programs that look at the file `${REQUEST}`, as `trainyard.should_checkpoint()` does"
            ),
            Some(Remark::TooSlow(cost)) => eprintln!(
                "trainyard: a checkpoint may take {:.1} s from the request until it is durable, so that an interruption may cost {:.1} s, which is more than `checkpoint.interval`",
                cost.as_secs_f64(),
                cost.saturating_mul(2).as_secs_f64()
            ),
        }
        at_risk
    }

    fn look_at_heartbeat(&mut self) {
        let Ok(metadata) = std::fs::metadata(&self.settings.heartbeat) else { return };
        let written = metadata.modified().ok();
        if written == self.beat_at {
            return;
        }
        self.beat_at = written;
        let text = read_start(&self.settings.heartbeat).unwrap_or_default();
        lock(&self.progress).beat(now(), Beat::parse(&text));
    }

    fn decide(&mut self, happened: Happened) {
        match self.course.decide(happened, self.begun.elapsed()) {
            Order::Nothing => {}
            Order::Save => {
                if let Some(checkpoint) = self.settings.checkpoint {
                    self.processes.tell(checkpoint.signal);
                }
            }
            Order::Terminate => self.processes.terminate(),
            // Mpirun passes it on to all ranks, and brings their stacks here: it must not end itself.
            Order::Abort if self.settings.remote.is_some() => {
                self.processes.tell(Signal::ABORT);
            }
            Order::Abort => self.processes.abort(),
            Order::Kill => self.processes.kill(),
        }
    }

    fn collect(&mut self) {
        let exits = self.processes.collect();
        let count = exits.len();
        for (at, exit) in exits.into_iter().enumerate() {
            let left = self.processes.left().saturating_add(count.saturating_sub(at + 1));
            self.decide(Happened::ProcessEnded { exit, left });
        }
    }

    /// Makes durable what the program has left: in the rest of its grace, or in peace.
    async fn flush(&mut self, signals: &mut Signals) {
        let Some(keeping) = &self.keeping else { return };
        let grace = self.settings.checkpoint.map_or(LEAST_FLUSH, |checkpoint| checkpoint.grace);
        let within = match (self.asked, self.course.cause().0) {
            (Some(Asked::WithCheckpoint(at)), _) => {
                grace.saturating_sub(at.elapsed()).max(LEAST_FLUSH)
            }
            (Some(Asked::AtOnce), _) => LEAST_FLUSH,
            // As long as there is a machine.
            (Some(Asked::ByNotice), _) | (None, Cause::Finished) => LAST_FLUSH,
            (None, _) => grace.min(FLUSH_AFTER_FAILURE),
        };
        // After a failure the next start is not to wait for a store that is away.
        let is_last = self.asked.is_some() || self.course.cause().0 == Cause::Finished;
        let is_asked = matches!(self.asked, Some(Asked::WithCheckpoint(_) | Asked::AtOnce));
        self.lost = tokio::select! {
            lost = keeping.flush(within, is_last) => lost,
            // There is less time than it had.
            () = signals.end(), if !is_asked => {
                self.asked = Some(Asked::WithCheckpoint(Instant::now()));
                keeping.flush(within.min(grace.max(LEAST_FLUSH)), is_last).await
            }
        };
        let has_finished = self.course.cause().0 == Cause::Finished && self.lost.is_none();
        if self.settings.part().is_some() && has_finished {
            keeping.prune().await;
        }
    }

    async fn ended(mut self) -> Ended {
        if let Some(keeping) = self.keeping.take() {
            self.report.saved = keeping.saved();
            keeping.end().await;
        }
        self.look_at_heartbeat();
        let ended = self.outcome();
        let progress = lock(&self.progress);
        (self.report.seen, self.report.kept) = (progress.seen(now()), Some(progress.kept()));
        self.report.ended = Some(ended.clone());
        write(self.settings, &self.report);
        ended
    }

    /// How it has ended, once that is decided.
    fn outcome(&self) -> Ended {
        let (cause, rank) = self.course.cause();
        if let (Cause::Finished, Some((name, why))) = (cause, &self.lost) {
            return self.unsaved(name, why);
        }
        let exit = Exit { rank: rank.unwrap_or_default(), cause };
        let own = || (self.message(&exit), self.processes.last_lines(rank));
        let (message, last_lines) = self.why.clone().unwrap_or_else(own);
        let machine_leaves = self.report.notice.is_some();
        Ended { cause, rank, message, last_lines, machine_leaves }
    }

    /// The program has finished, but its result goes with the disk: what comes after its newest checkpoint in
    /// the store has to be done again.
    fn unsaved(&self, name: &str, why: &str) -> Ended {
        let (cause, when) = match self.asked {
            Some(_) => (Cause::Interrupted, "it was told to end before"),
            None => (Cause::Exited(1), "it has finished before"),
        };
        Ended {
            cause,
            rank: None,
            message: format!("{when} its last checkpoint `{name}` was in the store: {why}"),
            last_lines: Vec::new(),
            machine_leaves: self.report.notice.is_some(),
        }
    }

    fn message(&self, exit: &Exit) -> String {
        let which = match self.settings.processes.len() {
            1 => "the program".to_owned(),
            _ => format!("the process of rank {}", exit.rank),
        };
        match exit.cause {
            Cause::Finished => "it has finished".to_owned(),
            Cause::Exited(code) => format!("{which} ended with exit code {code}"),
            Cause::Signalled(signal) => format!("signal {signal} ended {which}"),
            Cause::OutOfMemory => format!("the kernel ended {which} because memory ran out"),
            Cause::Hung => {
                let timeout = self.settings.progress_timeout.unwrap_or_default();
                format!("there was no progress for {} s", timeout.as_secs())
            }
            Cause::Interrupted => match (self.asked, &self.report.notice) {
                (None, _) => "another worker was told to end, whose processes it needs".to_owned(),
                (Some(Asked::ByNotice), Some(notice)) => {
                    format!("it was asked for a checkpoint, and left: {notice}")
                }
                _ => "it was told to end".to_owned(),
            },
            Cause::NotStarted(_) => format!("{which} could not be started"),
        }
    }
}

fn read_start(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(HEARTBEAT).read_to_string(&mut text)?;
    Ok(text)
}

/// How an agent was told to end.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// Its machine may be taken; the program was asked to save, and may leave.
    ByNotice,
    WithCheckpoint(Instant),
    AtOnce,
}

/// What the agent was told by a signal.
enum Sent {
    Terminate,
    Interrupt,
    PassOn(Signal),
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    user_1: tokio::signal::unix::Signal,
    user_2: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for one that says that this is the end. Cancel-safe.
    async fn end(&mut self) {
        loop {
            if let Sent::Terminate | Sent::Interrupt = self.next().await {
                return;
            }
        }
    }

    /// Waits for the next one. Cancel-safe.
    async fn next(&mut self) -> Sent {
        tokio::select! {
            _ = self.terminate.recv() => Sent::Terminate,
            _ = self.interrupt.recv() => Sent::Interrupt,
            _ = self.hang_up.recv() => Sent::PassOn(Signal::HUP),
            _ = self.quit.recv() => Sent::PassOn(Signal::QUIT),
            _ = self.user_1.recv() => Sent::PassOn(Signal::USR1),
            _ = self.user_2.recv() => Sent::PassOn(Signal::USR2),
        }
    }
}
