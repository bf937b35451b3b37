//! The life of one slot, from its first process to its stop. One task each; it reports every
//! change, and is told only one thing: to stop.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_control::restart::{Ending, History, Policy};
use trainyard_gateway::Gateway;
use trainyard_plan::{EnvVar, Probe, Value};

use super::cgroup::{self, CgroupBase};
use super::exit::{Exit, describe};
use super::health::{Change, Health, Kind, startup_delay};
use super::launch::launch;
use super::probe::probe;
use super::process::Process;
use super::{Event, Run, Slot, address, logs};
use crate::secret::Secrets;
use crate::state_dir::StateDir;

/// What all replicas of a supervisor use.
pub(crate) struct Shared {
    pub(crate) state: StateDir,
    /// The program that `Program::Trainyard` means.
    pub(crate) exe: PathBuf,
    /// Variables that every replica gets beside the supervisor's own.
    pub(crate) env: Vec<(String, OsString)>,
    /// Marks the processes of this state folder.
    pub(crate) marker: String,
    pub(crate) gateway: Arc<Gateway>,
    /// The start of the time that decisions see.
    pub(crate) begun: Instant,
    /// The number of the latest run.
    pub(crate) runs: AtomicU64,
    pub(crate) secrets: RwLock<Arc<Secrets>>,
    pub(crate) cgroup_base: OnceLock<CgroupBase>,
    /// True once no other supervisor has requests in flight at replicas that we took over.
    pub(crate) may_stop: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn secrets(&self) -> Arc<Secrets> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A text in which no secret of these variables is shown.
    pub(crate) fn hide(&self, env: &[EnvVar], mut text: String) -> String {
        let secrets = self.secrets();
        for var in env {
            let Value::Secret { secret, key } = &var.value else { continue };
            if let Ok(value) = secrets.value(secret, key)
                && !value.expose().is_empty()
            {
                text = text.replace(value.expose(), "(secret)");
            }
        }
        text
    }

    /// Looked for when the first replica needs it: most ask for no limit.
    pub(super) fn cgroups(&self) -> &CgroupBase {
        self.cgroup_base.get_or_init(|| CgroupBase::find(&self.marker))
    }
}

/// How a slot gets its first process.
#[expect(clippy::large_enum_variant, reason = "one a replica, moved once")]
pub(crate) enum Start {
    Launch,
    /// An earlier supervisor left it.
    Adopt {
        process: Process,
        run: Run,
    },
}

/// A process that was adopted and had listened answers its probe within this time, or is replaced.
const ADOPTION: Duration = Duration::from_secs(10);
pub(crate) const ROTATE_EVERY: Duration = Duration::from_secs(10);
/// Lines of its log that the end of a process is told with.
pub(crate) const QUOTED_LINES: usize = 5;

/// Runs a slot until `stop` is cancelled and its process has ended; `hurry` ends it at once.
pub(crate) async fn run(
    slot: Slot,
    start: Start,
    shared: Arc<Shared>,
    events: mpsc::Sender<(Arc<str>, Event)>,
    stop: CancellationToken,
    hurry: CancellationToken,
) {
    let log = shared.state.logs(&slot.service).join(format!("{}.log", slot.id));
    let task = Task { slot, shared, events, stop, hurry, log };
    let mut history = History::default();
    let mut next = Some(start);
    loop {
        let begun = Instant::now();
        let ended = match next.take().unwrap_or(Start::Launch) {
            Start::Launch => {
                let number = task.shared.runs.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                match launch(&task.slot.spec(), number, &task.shared) {
                    Ok(launched) => {
                        let run = launched.run.clone();
                        task.tell(Event::Started { run, adopted: false, notes: launched.notes })
                            .await;
                        let patience = None;
                        task.watch(launched.process, launched.run, launched.address_file, patience)
                            .await
                    }
                    Err(error) => Outcome::Ended(Ending::NotStarted, error.to_string()),
                }
            }
            Start::Adopt { process, run } => {
                let listened = run.address.is_some();
                let file = task
                    .shared
                    .state
                    .run()
                    .join(format!("{}.{}.address", task.slot.id, run.number));
                let adopted = Event::Started { run: run.clone(), adopted: true, notes: Vec::new() };
                task.tell(adopted).await;
                let file = (!listened).then_some(file);
                task.watch(process, run, file, listened.then_some(ADOPTION)).await
            }
        };
        let (ending, message) = match ended {
            Outcome::Stopped { forced } => {
                task.tell(Event::Stopped { forced }).await;
                return;
            }
            Outcome::Ended(ending, message) => (ending, message),
        };
        let now = task.shared.now();
        let restart = history.after(&Policy::LOCAL, ending, begun.elapsed(), now);
        task.tell(Event::Ended { ending, message, restart }).await;
        tokio::select! {
            () = task.stop.cancelled() => {
                task.tell(Event::Stopped { forced: false }).await;
                return;
            }
            () = tokio::time::sleep(restart.at.saturating_sub(now)) => {}
        }
    }
}

struct Task {
    slot: Slot,
    shared: Arc<Shared>,
    events: mpsc::Sender<(Arc<str>, Event)>,
    stop: CancellationToken,
    hurry: CancellationToken,
    log: PathBuf,
}

enum Outcome {
    Stopped { forced: bool },
    Ended(Ending, String),
}

/// What ends the watch over a process.
enum End {
    Stop,
    Exit(Exit),
    /// It has to be ended, since its probes say so.
    Failing(Ending, String),
}

impl Task {
    async fn tell(&self, event: Event) {
        // A supervisor that is gone, as after a handover, needs to know nothing more.
        let _ = self.events.send((self.slot.id.clone(), event)).await;
    }

    async fn watch(
        &self,
        mut process: Process,
        mut run: Run,
        address_file: Option<PathBuf>,
        patience: Option<Duration>,
    ) -> Outcome {
        let out_of_memory = cgroup::machine_out_of_memory();
        let end = {
            let probing = pin!(self.probe(&mut run, address_file.as_deref(), patience));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => End::Stop,
                exit = process.wait() => End::Exit(exit),
                (ending, message) = probing => End::Failing(ending, message),
                () = self.keep_log_short() => unreachable!("it goes on for ever"),
            }
        };
        let outcome = match end {
            End::Stop => self.stop(&mut process, &run).await,
            End::Exit(exit) => {
                process.kill();
                let killed_for_memory = match &run.cgroup {
                    Some(group) => cgroup::out_of_memory(group),
                    None => cgroup::machine_out_of_memory() > out_of_memory,
                };
                let ending = exit.ending(killed_for_memory);
                Outcome::Ended(ending, self.with_log(describe(ending, Some(exit)), &run))
            }
            End::Failing(ending, because) => {
                let (done, left) = oneshot::channel();
                self.tell(Event::Leaving { done }).await;
                // An error means that there is no table any more.
                let _ = left.await;
                self.stop(&mut process, &run).await;
                let message = format!("{}: {because}", describe(ending, None));
                Outcome::Ended(ending, self.with_log(message, &run))
            }
        };
        if let Some(group) = &run.cgroup {
            cgroup::remove(group);
        }
        if let Some(file) = &address_file {
            let _ = std::fs::remove_file(file);
        }
        outcome
    }

    /// The message with what the process has logged of its end, in which no secret of its is shown.
    fn with_log(&self, message: String, run: &Run) -> String {
        let lines = logs::last_lines(&self.log, run.log_start, QUOTED_LINES);
        if lines.is_empty() {
            return message;
        }
        let hide = |text: String| self.shared.hide(&self.slot.workload.env, text);
        match logs::error(&lines) {
            Some(error) => format!("{message}: {}", hide(error)),
            None => format!("{message}; its last lines: {}", hide(lines.join(" | "))),
        }
    }

    /// Probes a process until it has to be ended, and says why.
    async fn probe(
        &self,
        run: &mut Run,
        address_file: Option<&Path>,
        patience: Option<Duration>,
    ) -> (Ending, String) {
        let probes = &self.slot.workload.probes;
        let begun = Instant::now();
        let mut health = Health::default();
        let mut address = run.address;
        while !health.has_started() {
            let failed = match (address, address_file) {
                (Some(address), _) => probe(address, &probes.startup).await,
                (None, Some(file)) => match read_address(file).await {
                    Some(reported) => {
                        address = Some(reported);
                        run.address = Some(reported);
                        self.tell(Event::Listening(reported)).await;
                        continue;
                    }
                    None => Err("it has not reported where it listens".to_owned()),
                },
                (None, None) => Err("its workload has no port `http`".to_owned()),
            };
            let running_for = begun.elapsed();
            match failed {
                Ok(()) => {
                    health.pass(Kind::Startup);
                }
                Err(because) => {
                    let out_of_patience = patience.is_some_and(|patience| running_for >= patience);
                    let change = health.fail(Kind::Startup, probes, running_for);
                    if change == Change::NeverReady || out_of_patience {
                        return (Ending::NeverReady, because);
                    }
                    tokio::time::sleep(startup_delay(running_for, &probes.startup)).await;
                }
            }
        }
        let Some(address) = address else {
            return (Ending::NeverReady, "its address is not known".to_owned());
        };
        let mut readiness = pin!(later(Duration::ZERO, address, &probes.readiness));
        let mut liveness = pin!(later(probes.liveness.period, address, &probes.liveness));
        loop {
            let (kind, result) = tokio::select! {
                result = &mut readiness => (Kind::Readiness, result),
                result = &mut liveness => (Kind::Liveness, result),
            };
            let (change, because) = match result {
                Ok(()) => (health.pass(kind), String::new()),
                Err(because) => (health.fail(kind, probes, begun.elapsed()), because),
            };
            match change {
                Change::None => {}
                Change::Ready => self.tell(Event::Ready).await,
                Change::Unready => self.tell(Event::Unready { because }).await,
                Change::NeverReady => return (Ending::NeverReady, because),
                Change::Unresponsive => return (Ending::Unresponsive, because),
            }
            match kind {
                Kind::Readiness => {
                    readiness.set(later(probes.readiness.period, address, &probes.readiness));
                }
                Kind::Startup | Kind::Liveness => {
                    liveness.set(later(probes.liveness.period, address, &probes.liveness));
                }
            }
        }
    }

    /// Drains, asks the process to end, waits for its grace, and ends it. The endpoint has left the
    /// table before.
    async fn stop(&self, process: &mut Process, run: &Run) -> Outcome {
        let grace = self.slot.workload.grace;
        let mut may_stop = self.shared.may_stop.clone();
        let endpoint = run.endpoint(&self.slot.id);
        let drained = async {
            // An error means that its owner is gone, and nobody else has requests in flight.
            let _ = may_stop.wait_for(|may| *may).await;
            self.shared.gateway.drained(&endpoint, grace).await;
        };
        let exited = tokio::select! {
            _ = process.wait() => true,
            () = drained => false,
            () = self.hurry.cancelled() => false,
        };
        let begun = Instant::now();
        if !exited {
            process.terminate();
            let ended = tokio::select! {
                _ = process.wait() => true,
                () = tokio::time::sleep(grace) => false,
                () = self.hurry.cancelled() => false,
            };
            if !ended {
                process.kill();
                process.wait_killed().await;
                return Outcome::Stopped { forced: true };
            }
        }
        let hurried = self.hurry.is_cancelled();
        let rest = if hurried { Duration::ZERO } else { grace.saturating_sub(begun.elapsed()) };
        process.clear_group(rest).await;
        Outcome::Stopped { forced: false }
    }

    async fn keep_log_short(&self) {
        loop {
            tokio::time::sleep(ROTATE_EVERY).await;
            let log = self.log.clone();
            let rotated = tokio::task::spawn_blocking(move || logs::rotate(&log)).await;
            if let Ok(Err(error)) = rotated {
                tracing::warn!(replica = %self.slot.id, %error, "the log could not be set aside");
            }
        }
    }
}

async fn later(delay: Duration, address: SocketAddr, asked: &Probe) -> Result<(), String> {
    tokio::time::sleep(delay).await;
    probe(address, asked).await
}

async fn read_address(file: &Path) -> Option<SocketAddr> {
    // A few bytes from the page cache: cheaper than a trip to the pool of blocking threads.
    address::parse(&std::fs::read_to_string(file).ok()?)
}
