//! `trainyard up`.

mod engine;
mod fetch;
mod live;
pub(super) mod problems;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use miette::{Context, IntoDiagnostic, miette};
use tokio::signal::unix::{Signal, SignalKind, signal};
use trainyard_gateway::{Settings, Trace};
use trainyard_local::socket::{Applied, Client, ClientError, Reply, Request};
use trainyard_local::{Ended, Inherited, Options, StateDir, Supervisor, target};

use self::engine::Engine;
use self::live::Live;
use super::supervisor::{State, explain};

/// Serve models and run training jobs on this machine
///
/// Models get one endpoint, with a process for each replica behind it. With jobs alone, it ends when
/// they have: with 0 if all of them finished.
#[derive(Args)]
pub(crate) struct Up {
    /// Model files, folders of models, or manifests; without any, what ran before goes on
    targets: Vec<PathBuf>,
    /// Come back once everything is ready, and leave it running
    #[arg(short, long)]
    detach: bool,
    /// Where the gateway listens; 0 takes any free port [default: 8080, and any with jobs alone]
    #[arg(long, env = "TRAINYARD_PORT")]
    port: Option<u16>,
    /// On which address [default: 127.0.0.1]
    #[arg(long, env = "TRAINYARD_HOST")]
    host: Option<IpAddr>,
    /// Fetch nothing: no engine, no model
    #[arg(long, env = "TRAINYARD_OFFLINE")]
    offline: bool,
    /// Log each request at the gateway; of `up --detach` to the supervisor's log
    #[arg(long)]
    access_log: bool,
    #[command(flatten)]
    state: State,
    /// Be the supervisor of an `up --detach`
    #[arg(long, hide = true)]
    supervise: bool,
    /// Be the supervisor that another one hands over to
    #[arg(long, hide = true)]
    take_over: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Default)]
struct Names {
    services: Vec<String>,
    jobs: Vec<String>,
    /// Runs of jobs that were over before: they are not what was asked for.
    earlier: BTreeMap<String, u32>,
}

impl Names {
    fn is_empty(&self) -> bool {
        self.services.is_empty() && self.jobs.is_empty()
    }
}

const DEFAULT_PORT: u16 = 8080;
/// Nobody else on the network may call until a person says so.
const DEFAULT_HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Seconds that are counted down are drawn anew.
const REDRAW: Duration = Duration::from_secs(1);
/// While a detached supervisor starts, its socket is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Up {
    /// Exit code 1 means that something did not become ready.
    pub(crate) fn run(mut self) -> miette::Result<ExitCode> {
        let state = self.state.open()?;
        if self.supervise || self.take_over {
            return self.be_supervisor(state);
        }
        let resolved = target::resolve(&self.targets).map_err(problems::report)?;
        resolved.check_jobs().map_err(problems::report)?;
        for note in resolved.notes_here() {
            eprintln!("note: {note}");
        }
        let mut names = Names {
            services: resolved.services.iter().map(|it| it.name().to_owned()).collect(),
            jobs: resolved.jobs.iter().map(|it| it.name().to_owned()).collect(),
            earlier: BTreeMap::new(),
        };
        if state.is_locked() {
            return block_on(self.apply(&state));
        }
        let knows_others = knows_others(&state)?;
        names.earlier = earlier_runs(&state)?;
        if names.is_empty() && !knows_others {
            return Err(miette!(
                help = "name a model or a manifest: `trainyard up model.onnx`, `trainyard up job.yaml`",
                "there is nothing to run"
            ));
        }
        if names.services.is_empty() && !names.jobs.is_empty() && !knows_others {
            // Nobody calls a job: it needs no port that somebody else may have.
            self.port = self.port.or(Some(0));
        }
        let engine = engine::prepare(&resolved.services, self.offline);
        if self.detach {
            return block_on(self.start_detached(&state, &engine, names));
        }
        // What happens is on the display; the log adds only what goes wrong.
        let _telemetry = telemetry("warn,access=info")?;
        let ends_with_jobs = names.services.is_empty() && !names.jobs.is_empty() && !knows_others;
        block_on(self.foreground(state, engine, names, ends_with_jobs))
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.unwrap_or(DEFAULT_HOST), self.port.unwrap_or(DEFAULT_PORT))
    }

    /// Whether a gateway at that address is where this one was asked for.
    fn fits(&self, running: SocketAddr) -> bool {
        let port = self.port.filter(|port| *port != 0);
        port.is_none_or(|port| port == running.port())
            && self.host.is_none_or(|host| host == running.ip())
    }

    fn options(&self, state: StateDir, engine: Engine) -> miette::Result<Options> {
        let mut env = engine.env();
        if self.offline {
            // As the flag reads it: a supervisor that takes over fetches nothing either.
            env.push(("TRAINYARD_OFFLINE".to_owned(), "true".into()));
        }
        Ok(Options {
            state,
            address: self.address(),
            targets: self.targets.clone(),
            exe: std::env::current_exe().into_diagnostic()?,
            env,
            models: Arc::new(fetch::Storage { offline: self.offline }),
            gateway: Settings {
                access_log: self.access_log,
                trace: trainyard_telemetry::is_exporting().then_some(Trace {
                    set_parent: trainyard_telemetry::set_parent,
                    inject: trainyard_telemetry::inject,
                }),
                ..Settings::default()
            },
        })
    }

    /// Tells the supervisor that runs what should run, and waits until it does.
    async fn apply(&self, state: &StateDir) -> miette::Result<ExitCode> {
        let socket = state.socket();
        let ask = async |request: &Request| Client::ask(&socket, request).await;
        let version = match ask(&Request::Status).await {
            Ok(Reply::Status(status)) => {
                if !self.fits(status.address) {
                    eprintln!(
                        "note: the gateway stays at {}; --port and --host hold when a supervisor starts (`trainyard down` ends this one)",
                        status.address
                    );
                }
                status.version
            }
            Err(ClientError::Unfit { version }) => version,
            Ok(_) => String::new(),
            Err(error) => return Err(explain(error)),
        };
        if version != env!("CARGO_PKG_VERSION") {
            let exe = std::env::current_exe().into_diagnostic()?;
            ask(&Request::Handover { exe }).await.map_err(explain)?;
            eprintln!("handed over from Trainyard {version} to {}", env!("CARGO_PKG_VERSION"));
        }
        if self.targets.is_empty() {
            eprintln!("everything runs already; see `trainyard status`");
            return Ok(ExitCode::SUCCESS);
        }
        let targets = self.targets.iter().map(std::path::absolute).collect::<Result<_, _>>();
        let targets = targets.into_diagnostic()?;
        let applied = match ask(&Request::Apply { targets }).await.map_err(explain)? {
            Reply::Applied(Applied { services, jobs, .. }) => {
                Names { services, jobs, earlier: BTreeMap::new() }
            }
            other => return Err(miette!("the supervisor answers something else: {other:?}")),
        };
        let code = wait_until_settled(state, applied).await?;
        eprintln!("`trainyard status` shows it, `trainyard down` ends it");
        Ok(code)
    }

    async fn start_detached(
        &self,
        state: &StateDir,
        engine: &Engine,
        names: Names,
    ) -> miette::Result<ExitCode> {
        state.create().into_diagnostic()?;
        let mut child = self.spawn_supervisor(state, engine)?;
        loop {
            match Client::ask(&state.socket(), &Request::Status).await {
                Ok(_) => break,
                Err(ClientError::NotRunning { .. }) => {}
                Err(error) => return Err(explain(error)),
            }
            if let Some(status) = child.try_wait().into_diagnostic()? {
                let said = std::fs::read_to_string(state.supervisor_log()).unwrap_or_default();
                return Err(miette!("the supervisor ended with {status}:\n{}", said.trim_end()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let code = wait_until_settled(state, names).await?;
        eprintln!("`trainyard status` shows it, `trainyard down` ends it");
        Ok(code)
    }

    fn spawn_supervisor(&self, state: &StateDir, engine: &Engine) -> miette::Result<Child> {
        let path = state.supervisor_log();
        let log = std::fs::File::create(&path).into_diagnostic();
        let log = log.wrap_err_with(|| format!("cannot write `{}`", path.display()))?;
        let mut command = Command::new(std::env::current_exe().into_diagnostic()?);
        command.args(["up", "--supervise", "--state-dir"]).arg(state.root());
        let address = self.address();
        command.args(["--port", &address.port().to_string()]);
        command.args(["--host", &address.ip().to_string()]);
        command.args(self.offline.then_some("--offline"));
        command.args(self.access_log.then_some("--access-log")).args(&self.targets);
        command.envs(engine.env()).stdin(Stdio::null());
        command.stdout(log.try_clone().into_diagnostic()?).stderr(log);
        command.spawn().into_diagnostic().wrap_err("cannot start the supervisor")
    }

    /// A supervisor without a terminal: its words go to its log.
    fn be_supervisor(self, state: StateDir) -> miette::Result<ExitCode> {
        let _telemetry = telemetry("info")?;
        let inherited = self.take_over.then(Inherited::from_stdin).transpose().into_diagnostic()?;
        if let Err(error) = trainyard_local::detach() {
            // The leader of a process group cannot; its group is its own already.
            tracing::debug!(%error, "no session of its own");
        }
        block_on(async {
            let options = self.options(state, Engine::default())?;
            let mut supervisor = match inherited {
                Some(inherited) => Supervisor::take_over(inherited, options).await,
                None => Supervisor::start(options).await,
            }
            .into_diagnostic()?;
            let mut signals = Signals::new()?;
            loop {
                tokio::select! {
                    _ = supervisor.ended() => return Ok(ExitCode::SUCCESS),
                    again = signals.next() => end(&supervisor, again),
                }
            }
        })
    }

    /// The supervisor and its display in one process.
    async fn foreground(
        self,
        state: StateDir,
        engine: Engine,
        names: Names,
        ends_with_jobs: bool,
    ) -> miette::Result<ExitCode> {
        let options = self.options(state.clone(), engine)?;
        let mut supervisor = Supervisor::start(options).await.into_diagnostic()?;
        let mut signals = Signals::new()?;
        let mut live = if self.access_log { Live::plain(names) } else { Live::new(names) };
        let mut watch = Client::send(&state.socket(), &Request::Watch).await.map_err(explain)?;
        let mut watching = true;
        let mut redraw = tokio::time::interval(REDRAW);
        redraw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                ended = supervisor.ended() => break ended,
                again = signals.next() => {
                    live.say(if again { "ending at once" } else { "ending; once more to hurry" });
                    end(&supervisor, again);
                }
                status = watch.next_status(), if watching => match status {
                    Ok(Some(status)) => {
                        live.show(&status);
                        if ends_with_jobs && live.jobs_are_over() {
                            supervisor.stop();
                        }
                    }
                    _ => watching = false,
                },
                _ = redraw.tick(), if live.counts_down() => live.redraw(),
            }
        };
        match ended {
            Ended::Stopped => {
                if !ends_with_jobs {
                    live.say("everything has ended");
                }
                Ok(if live.has_failed() { ExitCode::from(1) } else { ExitCode::SUCCESS })
            }
            Ended::HandedOver => follow(&state, live, signals).await,
        }
    }
}

/// The display of a supervisor that is another process by now.
async fn follow(
    state: &StateDir,
    mut live: Live,
    mut signals: Signals,
) -> miette::Result<ExitCode> {
    live.say("another supervisor has taken over");
    let mut watch = Client::send(&state.socket(), &Request::Watch).await.map_err(explain)?;
    loop {
        tokio::select! {
            again = signals.next() => {
                let request = Request::Down { services: Vec::new(), hurry: again, forget: false };
                Client::ask(&state.socket(), &request).await.map_err(explain)?;
                live.say(if again { "ending at once" } else { "ending; once more to hurry" });
            }
            status = watch.next_status() => match status {
                Ok(Some(status)) => live.show(&status),
                _ if state.is_locked() => {
                    // Handed over once more.
                    tokio::time::sleep(LOOK_EVERY).await;
                    if let Ok(next) = Client::send(&state.socket(), &Request::Watch).await {
                        watch = next;
                    }
                }
                _ => {
                    live.say("everything has ended");
                    return Ok(ExitCode::SUCCESS);
                }
            },
        }
    }
}

/// Shows what happens until all these services are settled or have failed, or only wait: a canary
/// may wait for evidence for ever.
async fn wait_until_settled(state: &StateDir, names: Names) -> miette::Result<ExitCode> {
    let mut live = Live::new(names);
    let mut watch = Client::send(&state.socket(), &Request::Watch).await.map_err(explain)?;
    while let Some(status) = watch.next_status().await.map_err(explain)? {
        live.show(&status);
        if live.has_failed() {
            return Ok(ExitCode::from(1));
        }
        if let Some(waiting) = live.is_in_hand() {
            for waiting in waiting {
                live.say(&waiting);
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(miette!(
        "the supervisor ended; its last words are in `{}`",
        state.supervisor_log().display()
    ))
}

/// The newest run of each job that is over.
fn earlier_runs(state: &StateDir) -> miette::Result<BTreeMap<String, u32>> {
    let history = trainyard_local::history::History::open(&state.database()).into_diagnostic()?;
    let Some(history) = history else { return Ok(BTreeMap::new()) };
    let jobs = history.newest_jobs().into_diagnostic()?;
    Ok(jobs.into_iter().filter(|job| job.state.is_over()).map(|job| (job.name, job.run)).collect())
}

/// Whether something else would go on beside the targets.
fn knows_others(state: &StateDir) -> miette::Result<bool> {
    let history = trainyard_local::history::History::open(&state.database()).into_diagnostic()?;
    let Some(history) = history else { return Ok(false) };
    let jobs = history.newest_jobs().into_diagnostic()?;
    Ok(history.services().into_diagnostic()?.iter().any(|service| service.active)
        || jobs.iter().any(|job| !job.state.is_over()))
}

fn end(supervisor: &Supervisor, again: bool) {
    if again { supervisor.hurry() } else { supervisor.stop() }
}

/// Logs and spans of the gateway and the supervisor.
fn telemetry(default_filter: &'static str) -> miette::Result<trainyard_telemetry::Guard> {
    trainyard_telemetry::init(&trainyard_telemetry::Settings {
        service_name: trainyard_operator::GATEWAY.to_owned(),
        service_version: env!("CARGO_PKG_VERSION").to_owned(),
        format: trainyard_telemetry::LogFormat::default(),
        default_filter,
    })
    .into_diagnostic()
}

/// What is copied or hashed in the background when all else has ended is not waited for: it is
/// staged, and begun anew next time.
const LEFT_OVER: Duration = Duration::from_millis(500);

fn block_on<T>(work: impl Future<Output = miette::Result<T>>) -> miette::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().into_diagnostic()?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(LEFT_OVER);
    result
}

/// What asks this process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    came: bool,
}

impl Signals {
    fn new() -> miette::Result<Self> {
        let listen = |kind| signal(kind).into_diagnostic();
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            came: false,
        })
    }

    /// Waits for the next one; tells whether there was one before. Cancel-safe.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
        std::mem::replace(&mut self.came, true)
    }
}
