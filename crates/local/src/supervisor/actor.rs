//! The supervisor's one task: it takes in what happened, decides, and orders.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch as value};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use trainyard_gateway::Table;

use super::Ended;
use super::folders::Folders;
use super::handover::{Channel, Handing, hand_over};
use super::job::Job;
use super::prepare::{ModelSource, PrepareError, Prepared};
use super::ration::Rations;
use super::service::Service;
use super::watch::Watch;
use crate::history::{Event as Happened, Severity, Writer, unix_ms};
use crate::job;
use crate::replica::{self, Event, Shared};
use crate::secret::Entries;
use crate::socket::{self, Asked, Reply};
use crate::status::{Example, Recent, Status};
use crate::target::{Change, Members, Resolved, TargetError, fingerprint, members};

/// How often counters are read and decisions made though nothing happened.
const TICK: Duration = Duration::from_secs(1);
/// How often watched files are looked at; a change that lasts is acted upon at the second look.
const LOOK: Duration = Duration::from_millis(500);
/// Processes that belong to no replica any more get so long to end.
const STRAY_GRACE: Duration = Duration::from_secs(5);
/// Told to hurry, a supervisor ends within this, whatever still holds it up: a disk that stands
/// still, or a process that the kernel does not let go.
const HURRIED: Duration = Duration::from_secs(5);

pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    pub(super) models: Arc<dyn ModelSource>,
    pub(super) services: BTreeMap<String, Service>,
    /// The newest run of each job that a person has not taken off the list.
    pub(super) jobs: BTreeMap<String, Job>,
    /// The highest run of each job there was.
    pub(super) run_numbers: BTreeMap<String, u32>,
    /// What jobs may use together.
    pub(super) rations: Rations,
    /// Secrets that stand among manifests.
    pub(super) declared_secrets: BTreeMap<String, Entries>,
    /// Counts attempts to prepare a service.
    pub(super) generation: u64,
    pub(super) watch: Watch,
    pub(super) folders: Folders,
    /// The gateway's table; none before the first.
    pub(super) routed: Option<Table>,
    /// One for each replica and each worker of a job.
    pub(super) replicas: JoinSet<()>,
    /// Work in the background, whose result comes back here.
    pub(super) errands: JoinSet<Errand>,
    pub(super) tell: mpsc::Sender<(Arc<str>, Event)>,
    told: mpsc::Receiver<(Arc<str>, Event)>,
    pub(super) tell_of_jobs: mpsc::Sender<(job::Key, job::Event)>,
    told_of_jobs: mpsc::Receiver<(job::Key, job::Event)>,
    status: value::Sender<Status>,
    pub(super) stop: CancellationToken,
    pub(super) hurry: CancellationToken,
    pub(super) stopping: bool,
    /// Who waits for services to be gone.
    pub(super) downs: Vec<(Vec<String>, oneshot::Sender<Reply>)>,
    /// A handover that was asked for.
    pub(super) handover: Option<(PathBuf, oneshot::Sender<Reply>)>,
}

/// What comes back from the background.
pub(super) enum Errand {
    Resolved {
        targets: Vec<PathBuf>,
        result: Result<Resolved, Vec<TargetError>>,
        /// Whether a person named the targets just now; else it was a file that changed.
        by_person: bool,
        /// Who waits for the answer.
        reply: Option<oneshot::Sender<Reply>>,
    },
    Prepared {
        service: String,
        generation: u64,
        result: Box<Result<Prepared, PrepareError>>,
    },
    Looked(Looked),
    /// A folder that had changed was read.
    FolderResolved {
        folder: PathBuf,
        change: Change,
        result: Result<Resolved, Vec<TargetError>>,
    },
    /// The next attempt to fetch a model is due.
    FetchAgain {
        service: String,
        generation: u64,
    },
    /// The data of a job was looked for.
    DataLooked {
        job: String,
        run: u32,
        result: job::Looked,
    },
    /// A store that did not answer is to be asked again.
    LookAgain {
        job: String,
        run: u32,
    },
    Example {
        service: String,
        revision: String,
        example: Option<Example>,
    },
    Swept,
}

/// What a look at watched files and folders has found; a folder that cannot be read is left out.
pub(super) struct Looked {
    pub(super) files: Vec<(PathBuf, Option<String>)>,
    pub(super) folders: Vec<(PathBuf, Members)>,
}

/// What a supervisor holds that nothing but its task needs.
pub(super) struct Ends {
    pub(super) listener: TcpListener,
    pub(super) lock: File,
    pub(super) socket: UnixListener,
    pub(super) ask: mpsc::Sender<Asked>,
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) watched: value::Receiver<Status>,
    pub(super) handover: Option<Channel>,
    pub(super) may_stop: value::Sender<bool>,
}

impl Actor {
    pub(super) fn new(
        shared: Arc<Shared>,
        writer: Writer,
        models: Arc<dyn ModelSource>,
        status: value::Sender<Status>,
        stop: CancellationToken,
        hurry: CancellationToken,
    ) -> Self {
        // A replica that has something to tell waits.
        let (tell, told) = mpsc::channel(256);
        let (tell_of_jobs, told_of_jobs) = mpsc::channel(256);
        Self {
            shared,
            writer,
            models,
            services: BTreeMap::new(),
            jobs: BTreeMap::new(),
            run_numbers: BTreeMap::new(),
            rations: Rations::new(BTreeMap::new()),
            declared_secrets: BTreeMap::new(),
            generation: 0,
            watch: Watch::default(),
            folders: Folders::default(),
            routed: None,
            replicas: JoinSet::new(),
            errands: JoinSet::new(),
            tell,
            told,
            tell_of_jobs,
            told_of_jobs,
            status,
            stop,
            hurry,
            stopping: false,
            downs: Vec::new(),
            handover: None,
        }
    }

    /// Runs until all has ended, or was handed over.
    pub(super) async fn run(self, ends: Ends) -> Ended {
        let (hurry, shared) = (self.hurry.clone(), self.shared.clone());
        let overdue = async {
            hurry.cancelled().await;
            tokio::time::sleep(HURRIED).await;
        };
        let mut work = Box::pin(self.run_to_the_end(ends));
        tokio::select! {
            ended = &mut work => ended,
            () = overdue => {
                tracing::warn!("it did not end in time: what still runs is killed");
                kill_all(&shared).await;
                let _ = std::fs::remove_file(shared.state.socket());
                Ended::Stopped
            }
        }
    }

    async fn run_to_the_end(mut self, ends: Ends) -> Ended {
        let Ends { listener, lock, socket, ask, mut asked, watched, handover, may_stop } = ends;
        let socket_stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        clients.spawn(socket::serve(socket, ask, watched, socket_stop.clone()));
        let gateway_stop = CancellationToken::new();
        let mut serving = self.serve(&listener, gateway_stop.clone());
        if let Some(channel) = handover {
            clients.spawn(finish_taking_over(channel, self.adopted_are_back(), may_stop));
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looking = false;
        let (mut served, mut aborted) = (false, false);
        let gateway = self.shared.gateway.clone();
        let (stop, hurry) = (self.stop.clone(), self.hurry.clone());
        let ended = loop {
            let look_again = self.look_again_in();
            tokio::select! {
                () = stop.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    self.note(Severity::Normal, None, "supervisor", "Stopping", "requests in flight are finished, then replicas end").await;
                    gateway_stop.cancel();
                    self.stop_jobs().await;
                }
                () = hurry.cancelled(), if self.stopping && !aborted => {
                    // Once: a branch that is always ready would leave the others no turn.
                    aborted = true;
                    serving.abort();
                }
                result = &mut serving, if !served => {
                    served = true;
                    if !self.stopping {
                        let problem = match result {
                            Ok(Err(error)) => error.to_string(),
                            Ok(Ok(())) => "it ended by itself".to_owned(),
                            Err(error) => error.to_string(),
                        };
                        self.note(Severity::Warning, None, "gateway", "GatewayFailed", &problem).await;
                        tracing::error!(problem, "the gateway ended");
                        self.stopping = true;
                        stop.cancel();
                        self.stop_jobs().await;
                    }
                    self.leave_all().await;
                }
                Some((id, event)) = self.told.recv() => self.on_event(&id, event).await,
                Some((key, event)) = self.told_of_jobs.recv() => self.on_job_event(key, event).await,
                Some(asked) = asked.recv() => self.answer(asked).await,
                Some(done) = self.errands.join_next() => match done {
                    Ok(Errand::Looked(looked)) => {
                        looking = false;
                        self.on_looked(looked);
                    }
                    Ok(errand) => self.on_errand(errand).await,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                Some(done) = self.replicas.join_next() => {
                    if let Err(error) = done && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                wanted = gateway.wanted(), if !self.stopping => {
                    for service in wanted {
                        self.wake(&service).await;
                    }
                }
                _ = tick.tick() => self.on_tick().await,
                () = tokio::time::sleep(look_again) => {
                    self.steer_all().await;
                    self.steer_jobs().await;
                }
                _ = look.tick(), if !looking && !self.stopping => {
                    looking = true;
                    let (files, folders) = (self.watch.paths(), self.folders.paths());
                    self.errands.spawn_blocking(move || Errand::Looked(look_at(files, folders)));
                }
            }
            self.ration().await;
            self.publish();
            if let Some((exe, reply)) = self.handover.take() {
                match self.hand_over(&exe, &listener, &lock).await {
                    Ok(handing) => {
                        let message = format!("{} goes on", exe.display());
                        let _ = reply.send(Reply::Done { message });
                        gateway_stop.cancel();
                        let _ = (&mut serving).await;
                        drop(handing);
                        break Ended::HandedOver;
                    }
                    Err(problem) => {
                        let _ = reply.send(Reply::Failed { problems: vec![problem] });
                    }
                }
            }
            if self.stopping && served && self.services.is_empty() && self.jobs_are_over() {
                break Ended::Stopped;
            }
        };
        if ended == Ended::Stopped {
            self.sweep().await;
            let _ = std::fs::remove_file(self.shared.state.socket());
            if let Some(cgroups) = self.shared.cgroup_base.get() {
                cgroups.remove();
            }
        }
        self.writer.flush().await;
        socket_stop.cancel();
        // What clients were promised is answered; who only watches sees the end.
        drop(asked);
        while clients.join_next().await.is_some() {}
        drop(lock);
        ended
    }

    fn serve(
        &self,
        listener: &TcpListener,
        stop: CancellationToken,
    ) -> JoinHandle<std::io::Result<()>> {
        let gateway = self.shared.gateway.clone();
        let listener = listener.try_clone();
        tokio::spawn(async move { gateway.serve(listener?, stop).await })
    }

    /// Writes down that something happened.
    pub(super) async fn note(
        &mut self,
        severity: Severity,
        service: Option<&str>,
        object: &str,
        reason: &str,
        message: &str,
    ) {
        match severity {
            Severity::Normal => tracing::info!(object, reason, message),
            Severity::Warning => tracing::warn!(object, reason, message),
        }
        let now = unix_ms(SystemTime::now());
        let recent = Recent {
            at_ms: now,
            object: object.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        if let Some(service) = service.and_then(|name| self.services.get_mut(name)) {
            service.remember(recent);
        } else if let Some(job) = service.and_then(|name| self.jobs.get_mut(name)) {
            job.remember(recent);
        }
        let event = Happened {
            id: 0,
            first_ms: now,
            last_ms: now,
            count: 1,
            severity,
            service: service.map(str::to_owned),
            object: object.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        self.writer.event(event).await;
    }

    /// Shows clients what is.
    pub(super) fn publish(&self) {
        let services = self.services.values().map(Service::status).collect();
        let jobs = self.jobs.iter().map(|(name, job)| job.status(self.why_waits(name))).collect();
        let queues = self.queues_status();
        let stopping = self.stopping;
        self.status.send_if_modified(|status| {
            let is_same = status.services == services
                && status.jobs == jobs
                && status.queues == queues
                && status.stopping == stopping;
            if is_same {
                return false;
            }
            (status.services, status.jobs, status.queues) = (services, jobs, queues);
            status.stopping = stopping;
            true
        });
    }

    pub(super) fn watch_status(&self) -> value::Receiver<Status> {
        self.status.subscribe()
    }

    pub(super) fn status_now(&self) -> Status {
        self.status.borrow().clone()
    }

    async fn on_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Resolved { targets, result, by_person, reply } => {
                self.on_resolved(targets, result, by_person, reply).await;
            }
            Errand::Prepared { service, generation, result } => {
                self.on_prepared(&service, generation, *result).await;
            }
            Errand::Example { service, revision, example } => {
                let running = self.services.get_mut(&service).and_then(|s| s.running.as_mut());
                if let Some(running) = running.filter(|r| r.target.as_str() == revision) {
                    running.example = example;
                    running.example_known = true;
                }
            }
            Errand::FolderResolved { folder, change, result } => {
                self.on_folder_resolved(folder, change, result).await;
            }
            Errand::DataLooked { job, run, result } => self.on_data_looked(&job, run, result).await,
            Errand::LookAgain { job, run } => self.look_again(&job, run),
            Errand::FetchAgain { service, generation } => self.fetch_again(&service, generation),
            Errand::Looked(_) | Errand::Swept => {}
        }
    }

    /// Ends processes that belong to no replica: what replicas have started and left behind.
    async fn sweep(&mut self) {
        let marker = self.shared.marker.clone();
        let found = tokio::task::spawn_blocking(move || replica::marked(&marker)).await;
        let mut ending = JoinSet::new();
        let grace = if self.hurry.is_cancelled() { Duration::ZERO } else { STRAY_GRACE };
        for (_, identity) in found.unwrap_or_default() {
            ending.spawn(async move { replica::end(&identity, grace).await });
        }
        while ending.join_next().await.is_some() {}
    }

    /// Lets go of all replicas, and gives them to a new supervisor; takes them back if that fails.
    async fn hand_over(
        &mut self,
        exe: &std::path::Path,
        listener: &TcpListener,
        lock: &File,
    ) -> Result<Handing, String> {
        self.note(Severity::Normal, None, "supervisor", "HandingOver", &exe.display().to_string())
            .await;
        self.replicas.shutdown().await;
        while let Ok((id, event)) = self.told.try_recv() {
            self.on_event(&id, event).await;
        }
        while let Ok((key, event)) = self.told_of_jobs.try_recv() {
            self.on_job_event(key, event).await;
        }
        self.writer.flush().await;
        let Shared { state, env, gateway, .. } = &*self.shared;
        let access_log = gateway.settings().access_log;
        match hand_over(exe, state, env, listener, lock, access_log).await {
            Ok(handing) => Ok(handing),
            Err(error) => {
                let problem = format!("`{}` did not take over: {error}", exe.display());
                self.note(Severity::Warning, None, "supervisor", "HandoverFailed", &problem).await;
                self.adopt_again().await;
                Err(problem)
            }
        }
    }
}

/// Tells the old supervisor once its replicas are served by this one, and learns when nothing is in
/// flight there.
async fn finish_taking_over(
    mut channel: Channel,
    back: impl Future<Output = ()>,
    may_stop: value::Sender<bool>,
) -> std::io::Result<()> {
    back.await;
    channel.ready().await?;
    channel.drained().await;
    may_stop.send_replace(true);
    Ok(())
}

/// Kills every process of the state folder, and waits for none.
async fn kill_all(shared: &Shared) {
    let marker = shared.marker.clone();
    let found = tokio::task::spawn_blocking(move || replica::marked(&marker)).await;
    for (_, identity) in found.unwrap_or_default() {
        replica::kill(&identity);
    }
}

/// Looks at files and folders that may have changed. Blocks.
fn look_at(files: Vec<PathBuf>, folders: Vec<PathBuf>) -> Looked {
    let watched: BTreeSet<PathBuf> = files.iter().cloned().collect();
    let files = files.into_iter().map(|path| {
        let now = fingerprint(&path).ok();
        (path, now)
    });
    let folders = folders.into_iter().filter_map(|folder| {
        let members = members(&folder, &watched).ok()?;
        Some((folder, members))
    });
    Looked { files: files.collect(), folders: folders.collect() }
}
