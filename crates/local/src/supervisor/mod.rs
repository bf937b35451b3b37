//! The supervisor: one task that decides and orders, with replicas, gateway and clients around it.
//!
//! It owns every child of this machine's services, and the gateway in front of them. All that it
//! must remember goes to the history as it happens: it may be killed at any moment, and the next
//! one takes over what still runs.

mod actor;
mod adopt;
mod apply;
mod check;
mod clean_up;
mod copies;
mod evidence;
mod fetching;
mod folders;
mod handover;
mod job;
mod jobs;
mod metrics;
mod prepare;
mod ration;
mod requests;
mod service;
mod steer;
mod watch;

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, RwLock};

use tokio::sync::{mpsc, watch as value};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trainyard_gateway::{Gateway, Settings};

use actor::Actor;
pub use clean_up::clean_up;
pub use fetching::Progress;
pub use handover::Inherited;
pub use job::as_recorded;
pub use prepare::{FetchError, FetchRequest, ModelSource};

use crate::history::{HistoryError, Writer};
use crate::replica::Shared;
use crate::secret::Secrets;
use crate::socket;
use crate::state_dir::{StateDir, StateDirError};
use crate::status::Status;

/// What a supervisor is started with.
pub struct Options {
    pub state: StateDir,
    /// Where the gateway listens; port 0 takes any free one.
    pub address: SocketAddr,
    /// What to run at first.
    pub targets: Vec<PathBuf>,
    /// The program of replicas that are Trainyard itself: this one's path.
    pub exe: PathBuf,
    /// Variables that every replica gets beside this process's own, and the next supervisor too.
    pub env: Vec<(String, OsString)>,
    pub models: Arc<dyn ModelSource>,
    pub gateway: Settings,
}

/// Why a supervisor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    State(#[from] StateDirError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("cannot listen on {address}; choose another port with --port")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot make the control socket `{path}`")]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot take over from the supervisor before")]
    Handover { source: io::Error },
}

/// How a supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All that it ran has ended.
    Stopped,
    /// Another supervisor goes on with all that it ran.
    HandedOver,
}

/// A supervisor that runs.
pub struct Supervisor {
    /// Where the gateway listens.
    pub address: SocketAddr,
    stop: CancellationToken,
    hurry: CancellationToken,
    task: JoinHandle<Ended>,
}

impl Supervisor {
    /// Starts a supervisor: takes the state folder's lock, listens, takes over what an earlier one
    /// left, and begins to run the targets.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        options.state.create()?;
        let lock = options.state.lock()?;
        let address = options.address;
        let listener =
            TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })?;
        Self::run(options, listener, lock, None).await
    }

    /// Goes on with what another supervisor hands over.
    pub async fn take_over(inherited: Inherited, options: Options) -> Result<Self, StartError> {
        let handed = inherited.receive().await.map_err(|source| StartError::Handover { source })?;
        Self::run(options, handed.listener, handed.lock, Some(handed.channel)).await
    }

    async fn run(
        options: Options,
        listener: TcpListener,
        lock: std::fs::File,
        handover: Option<handover::Channel>,
    ) -> Result<Self, StartError> {
        let wrong = |source| StartError::Listen { address: options.address, source };
        let address = listener.local_addr().map_err(wrong)?;
        let (writer, saved) = Writer::open(&options.state.database())?;
        let gateway = Gateway::new(options.gateway);
        let (may_stop, stop_allowed) = value::channel(handover.is_none());
        let shared = Arc::new(Shared {
            secrets: RwLock::new(Arc::new(Secrets::new(options.state.secrets()))),
            state: options.state,
            exe: options.exe,
            env: options.env,
            marker: saved.marker.clone(),
            gateway: gateway.clone(),
            begun: tokio::time::Instant::now(),
            runs: AtomicU64::new(saved.runs),
            cgroup_base: OnceLock::new(),
            may_stop: stop_allowed,
        });
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let (status, watched) = value::channel(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            address,
            services: Vec::new(),
            jobs: Vec::new(),
            queues: Vec::new(),
            stopping: false,
        });
        let metrics = metrics::ServiceMetrics(watched.clone());
        gateway.with_registry(|registry| registry.register_collector(Box::new(metrics)));
        // A client whose request does not fit waits.
        let (ask, asked) = mpsc::channel(64);
        // Drivers take their time to answer.
        let _ = tokio::task::spawn_blocking(crate::machine::gpus).await;
        let mut actor =
            Actor::new(shared.clone(), writer, options.models, status, stop.clone(), hurry.clone());
        actor.take_over(saved).await;
        if !options.targets.is_empty() {
            actor.apply_at_start(options.targets);
        }
        let path = shared.state.socket();
        let socket = socket::bind(&path).map_err(|source| StartError::Socket { path, source })?;
        let task = tokio::spawn(actor.run(actor::Ends {
            listener,
            lock,
            socket,
            ask,
            asked,
            watched,
            handover,
            may_stop,
        }));
        Ok(Self { address, stop, hurry, task })
    }

    /// Begins to end: the gateway finishes what is in flight, then replicas end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends at once what is still there.
    pub fn hurry(&self) {
        self.hurry.cancel();
        self.stop.cancel();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Ended {
        // It can only fail by a panic, which goes on here.
        (&mut self.task).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Leaves the terminal and the session that started this process, so that their end is not its.
pub fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}
