//! Feeds a gateway from a cluster: services from their resources, replicas from EndpointSlices, API
//! keys from Secrets.
//!
//! The gateway routes by the last table while the API server is away.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt, select_all};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::core::{DeserializeGuard, Resource, ResourceExt};
use kube_client::{Api, Client};
use kube_runtime::reflector::{Store, store};
use kube_runtime::watcher::{Config, Event, watcher};
use kube_runtime::{WatchStreamExt, reflector};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trainyard_api::ModelService;
use trainyard_gateway::Gateway;
use trainyard_gateway::table::ApiKey;

use table::{Key, Keys};

use crate::names::SERVICE_LABEL;
use crate::settings::Scope;

/// Changes that come together make one table: a rollout changes a slice several times at once.
const GATHER: Duration = Duration::from_millis(20);
/// Building tables takes at most this share of the time, however many services there are.
const BUSY: u32 = 10;
/// Secrets are read again after this time. They are not watched: that would take the right to list
/// all secrets of a namespace.
const KEYS_EVERY: Duration = Duration::from_secs(30);
/// For one read of a secret.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

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
    let mut feed = Feed { client, gateway, services, slices, keys: Keys::new() };
    let mut listed = BTreeSet::new();
    let mut due: Option<Instant> = None;
    let mut earliest = Instant::now();
    let mut keys = tokio::time::interval(KEYS_EVERY);
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
                feed.read_keys(false).await;
                feed.update();
                due = None;
                earliest = Instant::now() + begun.elapsed() * BUSY;
            }
            _ = keys.tick(), if listed.len() == watches => {
                if feed.read_keys(true).await && due.is_none() {
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
    client: Client,
    gateway: Arc<Gateway>,
    services: Vec<Store<DeserializeGuard<ModelService>>>,
    slices: Vec<Store<EndpointSlice>>,
    keys: Keys,
}

impl Feed {
    fn update(&self) {
        let slices: Vec<_> = self.slices.iter().flat_map(Store::state).collect();
        let services: Vec<_> = self.services.iter().flat_map(Store::state).collect();
        let services = services.iter().filter_map(|service| service.0.as_ref().ok());
        let slices = slices.iter().map(|slice| &**slice);
        self.gateway.update(&table::table(services, slices, &self.keys));
    }

    /// Reads the secrets that services name: those that are new, or all of them again. Whether
    /// anything changed.
    async fn read_keys(&mut self, again: bool) -> bool {
        let services: Vec<_> = self.services.iter().flat_map(Store::state).collect();
        let wanted = table::secrets(services.iter().filter_map(|service| service.0.as_ref().ok()));
        let before = self.keys.len();
        self.keys.retain(|key, _| wanted.contains(key));
        let mut changed = self.keys.len() != before;
        for key in wanted {
            let known = self.keys.get(&key);
            if known.is_some() && !again {
                continue;
            }
            let read = match tokio::time::timeout(READ_TIMEOUT, self.read(&key)).await {
                Ok(read) => read,
                Err(_) => Err(Unread::Away("the API server does not answer".to_owned())),
            };
            let read = match read {
                Ok(keys) => Ok(keys),
                // Keys that were good a moment ago are so while the API server is away.
                Err(Unread::Away(error)) if matches!(known, Some(Ok(_))) => {
                    tracing::warn!(
                        namespace = key.0,
                        secret = key.1,
                        error,
                        "API keys were not read again"
                    );
                    continue;
                }
                Err(Unread::Away(reason) | Unread::Wrong(reason)) => Err(reason),
            };
            changed |= known != Some(&read);
            self.keys.insert(key, read);
        }
        changed
    }

    async fn read(&self, (namespace, name): &Key) -> Result<Vec<ApiKey>, Unread> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(Some(secret)) => Ok(digests(secret.data.unwrap_or_default())),
            Ok(None) => Err(Unread::Wrong(format!(
                "there is no secret `{name}` in the namespace `{namespace}`, which \
                 `spec.access.apiKeysSecret` names"
            ))),
            Err(kube_client::Error::Api(status)) if status.is_forbidden() => Err(Unread::Wrong(
                format!("the gateway may not read the secret `{name}`: {}", status.message),
            )),
            Err(error) => Err(Unread::Away(error.to_string())),
        }
    }
}

/// Why a secret was not read. For callers; holds no value of it.
enum Unread {
    /// Nobody can say what it holds.
    Away(String),
    /// It is not there, or not for us.
    Wrong(String),
}

fn digests(entries: BTreeMap<String, k8s_openapi::ByteString>) -> Vec<ApiKey> {
    entries
        .into_iter()
        .map(|(name, key)| ApiKey {
            name,
            // Editors and `echo` end a file with a line feed that is no part of the key.
            sha256: Sha256::digest(key.0.trim_ascii_end()).into(),
        })
        .collect()
}
