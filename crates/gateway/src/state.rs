//! What outlives one table: counters of services and of endpoints.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::load::Meter;
use crate::table::Table;

/// One replica, for as long as a table or a request names it.
#[derive(Debug)]
pub(crate) struct EndpointState {
    pub(crate) address: SocketAddr,
    in_flight: AtomicUsize,
    leaving: AtomicBool,
    idle: Notify,
}

impl EndpointState {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            in_flight: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            idle: Notify::new(),
        }
    }

    /// Starts a request, unless the endpoint has left the table.
    ///
    /// Sequentially consistent with `leave`: either this sees `leaving`, or the one who waits for
    /// the endpoint to drain sees this request.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Visit> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let visit = Visit(self.clone());
        if self.leaving.load(Ordering::SeqCst) { None } else { Some(visit) }
    }

    fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    /// Waits until no request is in flight.
    pub(crate) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A request in flight at an endpoint; ends when dropped.
#[derive(Debug)]
pub(crate) struct Visit(Arc<EndpointState>);

impl Drop for Visit {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.0.leaving.load(Ordering::SeqCst) {
            self.0.idle.notify_waiters();
        }
    }
}

#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) name: Arc<str>,
    pub(crate) meter: Meter,
}

/// A table with its counters.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    pub(crate) services: BTreeMap<Arc<str>, Arc<ServiceState>>,
    pub(crate) by_model: HashMap<String, Arc<ServiceState>>,
    pub(crate) endpoints: HashMap<Arc<str>, Arc<EndpointState>>,
    pub(crate) choices: HashMap<Arc<str>, Vec<Arc<EndpointState>>>,
}

impl Routing {
    /// Builds the next routing, keeping the counters of what stays.
    pub(crate) fn next(&self, table: &Table, now: Instant) -> Self {
        let mut next = Self::default();
        for (name, service) in &table.services {
            let state = self.services.get(name).cloned().unwrap_or_else(|| {
                Arc::new(ServiceState { name: name.clone(), meter: Meter::new(now) })
            });
            for model in &service.models {
                next.by_model.insert(model.clone(), state.clone());
            }
            let mut choices = Vec::new();
            for endpoint in service.revisions.iter().flat_map(|revision| &revision.endpoints) {
                let state = self
                    .endpoints
                    .get(&endpoint.id)
                    .cloned()
                    .unwrap_or_else(|| Arc::new(EndpointState::new(endpoint.address)));
                choices.push(state.clone());
                next.endpoints.insert(endpoint.id.clone(), state);
            }
            next.choices.insert(name.clone(), choices);
            next.services.insert(name.clone(), state);
        }
        for (id, endpoint) in &self.endpoints {
            if !next.endpoints.contains_key(id) {
                endpoint.leave();
            }
        }
        next
    }
}
