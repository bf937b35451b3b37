//! What outlives one table: the counters of services, revisions and endpoints.

use std::collections::hash_map;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderName;
use tokio::sync::Notify;

use crate::budget::Budget;
use crate::eject::{Ejection, Health, Outcome, Record};
use crate::load::Meter;
use crate::queue::Queue;
use crate::rate::Callers;
use crate::revision::{Codes, RevisionState};
use crate::scope;
use crate::settings::Settings;
use crate::table::{Access, Limits, Service, Table, Unavailable};
use crate::union::NO_REPLICA;
use crate::upstream::{GrpcPool, RestPool};

/// One replica, for as long as a table or a request names it.
#[derive(Debug)]
pub(crate) struct EndpointState {
    pub(crate) address: SocketAddr,
    in_flight: AtomicUsize,
    leaving: AtomicBool,
    idle: Notify,
    record: Mutex<Record>,
    /// Whether `record` holds anything, so that healthy replicas cost no lock.
    troubled: AtomicBool,
    /// Whether the one request that a half-open replica gets is under way.
    probing: AtomicBool,
    pub(crate) rest: RestPool,
    pub(crate) grpc: GrpcPool,
}

impl EndpointState {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            in_flight: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            idle: Notify::new(),
            record: Mutex::default(),
            troubled: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            rest: RestPool::default(),
            grpc: GrpcPool::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    pub(crate) fn health(&self, now: Instant) -> Health {
        if !self.troubled.load(Ordering::Acquire) {
            return Health::Healthy;
        }
        self.record.lock().unwrap_or_else(PoisonError::into_inner).health(now)
    }

    /// Counts a request in, unless the endpoint is full, has left the table, or is out.
    ///
    /// Sequentially consistent with `leave`: either this sees `leaving`, or the one who waits for
    /// the endpoint to drain sees this request.
    pub(crate) fn enter(
        self: &Arc<Self>,
        limit: Option<u32>,
        mind_health: bool,
        now: Instant,
    ) -> Option<Entry> {
        let mut probe = false;
        if mind_health {
            match self.health(now) {
                Health::Healthy => {}
                Health::Ejected(_) => return None,
                Health::HalfOpen => {
                    if self.probing.swap(true, Ordering::AcqRel) {
                        return None;
                    }
                    probe = true;
                }
            }
        }
        let before = self.in_flight.fetch_add(1, Ordering::SeqCst);
        let entry = Entry { endpoint: self.clone(), probe };
        let full = limit.is_some_and(|limit| before >= limit as usize);
        if full || self.is_leaving() { None } else { Some(entry) }
    }

    /// Takes in how a request ended; true if that ejected the endpoint.
    pub(crate) fn note(
        &self,
        outcome: Outcome,
        settings: &Ejection,
        others: impl FnOnce() -> (usize, usize),
    ) -> bool {
        if outcome != Outcome::Failure && !self.troubled.load(Ordering::Acquire) {
            return false;
        }
        let (others, now) = (others(), Instant::now());
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let change = record.note(outcome, settings, others, now);
        self.troubled.store(*record != Record::default(), Ordering::Release);
        matches!(change, crate::eject::Change::Ejected(_))
    }

    fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.rest.clear();
        self.grpc.clear();
    }

    /// Waits until no request is in flight.
    pub(crate) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A request counted at an endpoint; ends when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) endpoint: Arc<EndpointState>,
    probe: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.probe {
            self.endpoint.probing.store(false, Ordering::Release);
        }
        let before = self.endpoint.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.endpoint.is_leaving() {
            self.endpoint.idle.notify_waiters();
        }
    }
}

/// Who is counted for a rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// The digest of an API key.
    Key([u8; 32]),
    Address(std::net::IpAddr),
}

/// One service, for as long as tables have it.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) name: Arc<str>,
    pub(crate) meter: Meter,
    pub(crate) queue: Queue,
    pub(crate) budget: Budget,
    pub(crate) callers: Mutex<Callers<Caller>>,
    pub(crate) ejection: Ejection,
    pub(crate) config: ArcSwap<ServiceConfig>,
    /// Where on the circle of weights the next request falls.
    pub(crate) position: AtomicU32,
    /// Answers of the gateway itself.
    pub(crate) refused: Codes,
    pub(crate) counts: Counts,
}

/// Counters that only `/metrics` reads.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) retries: AtomicU64,
    pub(crate) retries_denied: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) connect_errors: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) mirrored: AtomicU64,
    pub(crate) mirrors_dropped: AtomicU64,
}

/// What the newest table says about a service.
#[derive(Debug, Default)]
pub(crate) struct ServiceConfig {
    pub(crate) models: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) revisions: Vec<RevisionConfig>,
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    pub(crate) mirror: Option<MirrorConfig>,
    pub(crate) sticky_header: Option<HeaderName>,
    pub(crate) scales_to_zero: bool,
    pub(crate) unavailable: Option<Unavailable>,
    /// The service has left the table.
    pub(crate) gone: bool,
}

impl ServiceConfig {
    /// Whether it can answer, or could after a cold start.
    pub(crate) fn is_ready(&self) -> bool {
        self.endpoints().next().is_some() || self.scales_to_zero && self.unavailable.is_none()
    }

    /// Why it has no endpoint, if that is so.
    pub(crate) fn why_not(&self) -> Option<&str> {
        if self.endpoints().next().is_some() {
            return None;
        }
        let reason = self.unavailable.as_ref().map(|unavailable| unavailable.reason.as_str());
        Some(reason.unwrap_or(NO_REPLICA))
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<EndpointState>> {
        self.revisions.iter().flat_map(|revision| &revision.endpoints)
    }
}

#[derive(Debug)]
pub(crate) struct RevisionConfig {
    pub(crate) state: Arc<RevisionState>,
    pub(crate) weight: u32,
    pub(crate) endpoints: Vec<Arc<EndpointState>>,
}

#[derive(Debug)]
pub(crate) struct MirrorConfig {
    /// Index into the revisions.
    pub(crate) revision: usize,
    pub(crate) share: f64,
}

/// A table with its counters.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    /// There has been a table, be it an empty one.
    known: bool,
    pub(crate) services: BTreeMap<Arc<str>, Arc<ServiceState>>,
    pub(crate) by_model: HashMap<String, Named>,
    by_host: HashMap<String, Arc<ServiceState>>,
    pub(crate) endpoints: HashMap<Arc<str>, Arc<EndpointState>>,
}

/// Whose model a name is.
#[derive(Debug)]
pub(crate) enum Named {
    One(Arc<ServiceState>),
    /// In the order of the services' names.
    Several(Vec<Arc<ServiceState>>),
}

impl Routing {
    /// Builds the next routing, keeping the counters of what stays.
    pub(crate) fn next(&self, table: &Table, settings: &Settings, now: Instant) -> Self {
        let mut next = Self { known: true, ..Self::default() };
        for (name, service) in &table.services {
            let known = self.services.get(name);
            let before = known.map(|state| state.config.load_full());
            let config = self.config(service, before.as_deref(), &mut next.endpoints);
            let state = match known {
                Some(state) => {
                    state.config.store(Arc::new(config));
                    state.clone()
                }
                None => Arc::new(ServiceState::new(name.clone(), config, settings, now)),
            };
            for model in &service.models {
                next.name(model, &state);
            }
            for host in &service.hosts {
                next.by_host.insert(host.clone(), state.clone());
            }
            next.services.insert(name.clone(), state);
        }
        for (name, service) in &self.services {
            if !next.services.contains_key(name) {
                service.config.store(Arc::new(ServiceConfig { gone: true, ..Default::default() }));
            }
        }
        next
    }

    fn name(&mut self, model: &str, service: &Arc<ServiceState>) {
        match self.by_model.entry(model.to_owned()) {
            hash_map::Entry::Vacant(place) => {
                place.insert(Named::One(service.clone()));
            }
            hash_map::Entry::Occupied(mut place) => match place.get_mut() {
                // A service that names a model twice.
                Named::One(known) if Arc::ptr_eq(known, service) => {}
                Named::One(known) => {
                    let services = vec![known.clone(), service.clone()];
                    place.insert(Named::Several(services));
                }
                Named::Several(services) => services.push(service.clone()),
            },
        }
    }

    /// Whether any service is known by a host, so that requests need not be looked at for one.
    pub(crate) fn has_hosts(&self) -> bool {
        !self.by_host.is_empty()
    }

    /// The service that a request's host names.
    pub(crate) fn by_host(&self, host: &str) -> Option<&Arc<ServiceState>> {
        scope::candidates(host).find_map(|name| self.by_host.get(&name))
    }

    fn config(
        &self,
        service: &Service,
        before: Option<&ServiceConfig>,
        endpoints: &mut HashMap<Arc<str>, Arc<EndpointState>>,
    ) -> ServiceConfig {
        let mut revisions = Vec::new();
        for revision in &service.revisions {
            let known = before.and_then(|before| {
                before.revisions.iter().find(|known| known.state.name == revision.name)
            });
            let mut states = Vec::new();
            for endpoint in &revision.endpoints {
                let known =
                    endpoints.get(&endpoint.id).or_else(|| self.endpoints.get(&endpoint.id));
                let state = known
                    .cloned()
                    .unwrap_or_else(|| Arc::new(EndpointState::new(endpoint.address)));
                endpoints.insert(endpoint.id.clone(), state.clone());
                states.push(state);
            }
            let state = known
                .map(|known| known.state.clone())
                .unwrap_or_else(|| Arc::new(RevisionState::new(&revision.name)));
            revisions.push(RevisionConfig { state, weight: revision.weight, endpoints: states });
        }
        let mirror = service.mirror.as_ref().and_then(|mirror| {
            let revision = service.revisions.iter().position(|r| r.name == mirror.revision)?;
            Some(MirrorConfig { revision, share: mirror.share })
        });
        ServiceConfig {
            models: service.models.clone(),
            hosts: service.hosts.clone(),
            revisions,
            limits: service.limits.clone(),
            access: service.access.clone(),
            mirror,
            sticky_header: service.sticky_header.as_deref().and_then(|name| {
                let parsed = name.parse().ok();
                if parsed.is_none() {
                    tracing::warn!(name, "the sticky header is no header name and is not minded");
                }
                parsed
            }),
            scales_to_zero: service.scales_to_zero,
            unavailable: service.unavailable.clone(),
            gone: false,
        }
    }

    /// Tells the endpoints that are not in the `next` routing to take no more requests, and all
    /// who wait to look again. To be called once `next` is in place.
    pub(crate) fn hand_over(&self, next: &Self) {
        for (id, endpoint) in &self.endpoints {
            if !next.endpoints.contains_key(id) {
                endpoint.leave();
            }
        }
        for service in self.services.values().chain(next.services.values()) {
            service.queue.wake();
        }
    }

    /// The only service, if there is just one.
    pub(crate) fn only(&self) -> Option<&Arc<ServiceState>> {
        if self.services.len() == 1 { self.services.values().next() } else { None }
    }

    /// Whether there has been a table, be it an empty one.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Whether each service can answer, or could after a cold start.
    pub(crate) fn is_ready(&self) -> bool {
        self.services.values().all(|service| service.config.load().is_ready())
    }
}

impl ServiceState {
    fn new(name: Arc<str>, config: ServiceConfig, settings: &Settings, now: Instant) -> Self {
        Self {
            name,
            meter: Meter::new(now),
            queue: Queue::default(),
            budget: Budget::new(settings.retry_min_per_second, now),
            callers: Mutex::default(),
            ejection: settings.ejection.clone(),
            config: ArcSwap::from_pointee(config),
            position: AtomicU32::new(0),
            refused: Codes::default(),
            counts: Counts::default(),
        }
    }
}
