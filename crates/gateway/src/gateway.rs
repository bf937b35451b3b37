//! The gateway as its owner sees it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::TcpListener;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::uri::Authority;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::front;
use crate::load::ServiceLoad;
use crate::metrics::Metrics;
use crate::replay::{Kept, Pool};
use crate::revision::{Codes, RevisionLoad};
use crate::scope::{self, Scope};
use crate::settings::Settings;
use crate::state::{EndpointState, RevisionConfig, Routing};
use crate::table::Table;

/// What was seen of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceFigures {
    /// As the table has it.
    pub name: Arc<str>,
    pub load: ServiceLoad,
    /// By name; empty unless the table has several.
    pub revisions: Vec<(String, RevisionLoad)>,
}

/// A proxy in front of services. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) routing: Arc<ArcSwap<Routing>>,
    /// Endpoints that left the table. Only requests keep them alive, and each update forgets those
    /// that are gone.
    leaving: Mutex<HashMap<Arc<str>, Weak<EndpointState>>>,
    wanted: Mutex<BTreeSet<Arc<str>>>,
    wanted_changed: Notify,
    registry: Mutex<Registry>,
    /// Answers of the gateway that concern no service.
    pub(crate) own_codes: Arc<Codes>,
    /// Open client connections, over all listeners.
    pub(crate) connections: AtomicUsize,
    /// Places for copies in flight to mirrors.
    pub(crate) mirrors: Arc<Semaphore>,
    /// Bytes of bodies that are kept to be sent again.
    pub(crate) replays: Arc<Pool>,
    /// Connections to replicas and copies to mirrors; they end by themselves.
    pub(crate) tasks: TaskTracker,
}

impl Gateway {
    /// Makes a gateway with an empty table.
    pub fn new(settings: Settings) -> Arc<Self> {
        let routing: Arc<ArcSwap<Routing>> = Arc::default();
        let own_codes: Arc<Codes> = Arc::default();
        let mut registry = Registry::default();
        let metrics = Metrics { routing: routing.clone(), own: own_codes.clone() };
        registry.register_collector(Box::new(metrics));
        Arc::new(Self {
            mirrors: Arc::new(Semaphore::new(settings.max_mirrored.min(Semaphore::MAX_PERMITS))),
            replays: Pool::new(settings.replay_total),
            settings,
            routing,
            leaving: Mutex::default(),
            wanted: Mutex::default(),
            wanted_changed: Notify::new(),
            registry: Mutex::new(registry),
            own_codes,
            connections: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// How it behaves.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replaces the table. Requests under way keep the endpoints that they have.
    pub fn update(&self, table: &Table) {
        // Also makes updates follow one another.
        let mut leaving = lock(&self.leaving);
        let before = self.routing.load_full();
        let next = Arc::new(before.next(table, &self.settings, Instant::now()));
        leaving
            .retain(|id, endpoint| !next.endpoints.contains_key(id) && endpoint.strong_count() > 0);
        for (id, endpoint) in &before.endpoints {
            if !next.endpoints.contains_key(id) {
                leaving.insert(id.clone(), Arc::downgrade(endpoint));
            }
        }
        self.routing.store(next.clone());
        drop(leaving);
        before.hand_over(&next);
    }

    /// Serves one listener until `stop` is cancelled, then lets connections finish.
    ///
    /// From then on answers tell clients to close; after [`Settings::close_grace`] connections
    /// without a request are closed. Returns once all have ended; what is left after
    /// [`Settings::drain_timeout`] is cut. The listener may be shared with another process and may
    /// come from an inherited descriptor. Several listeners may be served at once.
    ///
    /// # Errors
    /// If the listener cannot be used in a runtime. Connections that fail are not errors.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        front::serve(self, listener, stop).await;
        Ok(())
    }

    /// How busy a service is; `None` if the table has no such service.
    pub fn observe(&self, service: &str) -> Option<ServiceLoad> {
        let routing = self.routing.load();
        let service = routing.services.get(service)?;
        Some(service.meter.read(service.queue.len() as u64, Instant::now()))
    }

    /// How a revision answers; `None` if the table has no such service or revision.
    ///
    /// The counters start anew when a revision leaves the table and comes back.
    pub fn observe_revision(&self, service: &str, revision: &str) -> Option<RevisionLoad> {
        let routing = self.routing.load();
        let config = routing.services.get(service)?.config.load();
        let known = config.revisions.iter().find(|known| known.state.name == revision)?;
        Some(known.state.read(Instant::now()))
    }

    /// How busy each service is, and how each revision answers where there are several.
    pub fn observe_all(&self) -> Vec<ServiceFigures> {
        let (routing, now) = (self.routing.load(), Instant::now());
        let figures = routing.services.values().map(|service| {
            let config = service.config.load();
            let read = |known: &RevisionConfig| (known.state.name.clone(), known.state.read(now));
            let is_rollout = config.revisions.len() > 1;
            ServiceFigures {
                name: service.name.clone(),
                load: service.meter.read(service.queue.len() as u64, now),
                revisions: config.revisions.iter().filter(|_| is_rollout).map(read).collect(),
            }
        });
        figures.collect()
    }

    /// Waits until requests are held for services without an endpoint; returns these services.
    ///
    /// Each is returned once for any number of requests since the last call. Cancel-safe. One task
    /// should wait, since each service is told to one caller only.
    pub async fn wanted(&self) -> BTreeSet<Arc<str>> {
        loop {
            // A permit is stored if the change comes before the wait.
            let wanted = std::mem::take(&mut *lock(&self.wanted));
            if !wanted.is_empty() {
                return wanted;
            }
            self.wanted_changed.notified().await;
        }
    }

    /// What a new request may keep of its body.
    pub(crate) fn keeps(&self) -> Kept {
        Kept::new(self.settings.replay_limit, &self.replays)
    }

    pub(crate) fn want(&self, service: &Arc<str>) {
        lock(&self.wanted).insert(service.clone());
        self.wanted_changed.notify_one();
    }

    /// Waits until no request is in flight at an endpoint that has left the table.
    ///
    /// True if so within `deadline`, also for an endpoint that was never known. An endpoint that
    /// is still in the table gives false at once: it would get new requests.
    pub async fn drained(&self, endpoint: &str, deadline: Duration) -> bool {
        if self.routing.load().endpoints.contains_key(endpoint) {
            return false;
        }
        let state = lock(&self.leaving).get(endpoint).and_then(Weak::upgrade);
        let Some(state) = state else { return true };
        let done = tokio::time::timeout(deadline, state.drained()).await.is_ok();
        if done {
            lock(&self.leaving).remove(endpoint);
        }
        done
    }

    /// The registry that `/metrics` shows; the owner may register its own metrics too.
    pub fn with_registry<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut lock(&self.registry))
    }

    /// What a request with these headers sees of the newest table; over HTTP/2 its host stands in
    /// the authority.
    pub(crate) fn scope(&self, headers: &HeaderMap, authority: Option<&Authority>) -> Scope {
        let routing = self.routing.load_full();
        let host = routing.has_hosts().then(|| scope::host(headers, authority)).flatten();
        Scope::of(routing, host)
    }

    /// Whether there is a table and, unless readiness follows the table alone, each of its services
    /// can answer, or could after a cold start.
    pub(crate) fn is_ready(&self) -> bool {
        let routing = self.routing.load();
        routing.is_known() && (self.settings.ready_by_table || routing.is_ready())
    }

    /// Closes connections to replicas that have been idle for too long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        for endpoint in self.routing.load().endpoints.values() {
            endpoint.rest.sweep(self.settings.upstream_idle, now);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half way, save a closure of the owner's.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
