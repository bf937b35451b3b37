//! Feeds a gateway from a cluster: services from their resources, replicas from EndpointSlices, API
//! keys from Secrets.
//!
//! The gateway routes by the last table while the API server is away.

mod keys;
mod table;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt, select_all};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::core::{DeserializeGuard, Resource, ResourceExt};
use kube_client::{Api, Client};
use kube_runtime::reflector::{Store, store};
use kube_runtime::watcher::{Config, Event, watcher};
use kube_runtime::{WatchStreamExt, reflector};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_api::ModelService;
use trainyard_gateway::Gateway;

use keys::Reader;
use table::Key;

use crate::names::SERVICE_LABEL;
use crate::settings::Scope;

/// Changes that come together make one table: a rollout changes a slice several times at once.
const GATHER: Duration = Duration::from_millis(20);
/// Building tables takes at most this share of the time, however many services there are.
const BUSY: u32 = 10;
/// Secrets are read again after this time. They are not watched: that would take the right to list
/// all secrets of a namespace.
const KEYS_EVERY: Duration = Duration::from_secs(30);

/// Keeps the gateway's table as the cluster is, until `stop` is cancelled.
///
/// A watch that fails is begun again with exponential back-off; what cannot be read of a resource
/// leaves out that resource and nothing else.
pub async fn feed(client: Client, gateway: Arc<Gateway>, scope: Scope, stop: CancellationToken) {
    let (mut services, mut slices) = (Vec::new(), Vec::new());
    let mut changes: Vec<Changes> = Vec::new();
    for namespace in scope.watched() {
        // Kubernetes copies a Service's labels to its slices.
        let selector = Config::default().labels(SERVICE_LABEL);
        let at = changes.len();
        changes.push(watch(&client, namespace, Config::default(), at, &mut services));
        changes.push(watch(&client, namespace, selector, at + 1, &mut slices));
    }
    let watches = changes.len();
    let mut changes = select_all(changes);
    let mut keys = Reader::new(client);
    let feed = Feed { gateway, services, slices };
    let mut listed = BTreeSet::new();
    let mut due: Option<Instant> = None;
    let mut earliest = Instant::now();
    let mut again = tokio::time::interval(KEYS_EVERY);
    loop {
        let build = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Some(change) = changes.next() => {
                if let Change::Listed(watch) = change {
                    listed.insert(watch);
                }
                // A table of half the cluster would turn requests away that can be answered.
                if listed.len() == watches && due.is_none() {
                    due = Some((Instant::now() + GATHER).max(earliest));
                }
            }
            () = build => {
                let begun = Instant::now();
                let wanted = feed.secrets();
                keys.begin(&wanted, false);
                due = keys.worth_waiting(&wanted, begun);
                if due.is_none() {
                    feed.update(&keys);
                    earliest = Instant::now() + begun.elapsed() * BUSY;
                }
            }
            is_news = keys.next() => {
                if is_news && listed.len() == watches {
                    due = Some(due.map_or(earliest, |due| due.min(earliest)));
                }
            }
            _ = again.tick(), if listed.len() == watches => {
                if keys.begin(&feed.secrets(), true) && due.is_none() {
                    due = Some(earliest);
                }
            }
        }
    }
}

/// Something happened to one of the watches.
enum Change {
    /// The watch of that number has all objects.
    Listed(usize),
    Object,
}

type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// Watches one kind of object into a store, and tells of each change.
fn watch<K>(
    client: &Client,
    namespace: Option<&str>,
    config: Config,
    number: usize,
    stores: &mut Vec<Store<K>>,
) -> Changes
where
    K: Resource<Scope = kube_client::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (reader, writer) = store();
    stores.push(reader);
    let events = watcher(api, config).default_backoff().modify(|object| {
        object.managed_fields_mut().clear();
    });
    let changes = reflector(writer, events).filter_map(move |event| async move {
        match event {
            Ok(Event::InitDone) => Some(Change::Listed(number)),
            Ok(Event::Apply(_) | Event::Delete(_)) => Some(Change::Object),
            Ok(Event::Init | Event::InitApply(_)) => None,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "a watch failed and is begun again");
                None
            }
        }
    });
    Box::pin(changes)
}

struct Feed {
    gateway: Arc<Gateway>,
    services: Vec<Store<DeserializeGuard<ModelService>>>,
    slices: Vec<Store<EndpointSlice>>,
}

impl Feed {
    fn update(&self, keys: &Reader) {
        let slices: Vec<_> = self.slices.iter().flat_map(Store::state).collect();
        let services: Vec<_> = self.services.iter().flat_map(Store::state).collect();
        let services = services.iter().filter_map(|service| service.0.as_ref().ok());
        let slices = slices.iter().map(|slice| &**slice);
        self.gateway.update(&table::table(services, slices, keys.known()));
    }

    /// The secrets that services name.
    fn secrets(&self) -> BTreeSet<Key> {
        let services: Vec<_> = self.services.iter().flat_map(Store::state).collect();
        table::secrets(services.iter().filter_map(|service| service.0.as_ref().ok()))
    }
}
