//! The watches that keep [`Pools`] as the cluster is, and wake the services when it matters to them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube_client::core::DeserializeGuard;
use kube_client::{Api, Client, Resource, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Config, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use trainyard_api::GpuPool;

use super::Pools;
use super::inventory::{GpuNode, GpuPod};
use super::known::Seen;
use crate::cluster::{Chain, known_resources};
use crate::feed::Sync;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::world::World;

/// The watch's name among those that must have seen all before anybody acts.
const NAME: &str = "gpupools";
/// Objects per page of a list.
const PAGE: u32 = 100;

/// Dynamic resource allocation, and what it has of its own.
const DRA: (&str, &str) = ("resource.k8s.io/v1", "deviceclasses");

/// Whether the cluster has GPU pools, of the resources of ours that it `knows`; finds out whether it has
/// dynamic resource allocation. Cancel-safe.
pub(crate) async fn is_served(client: &Client, knows: &BTreeSet<String>, pools: &Pools) -> bool {
    let (version, resource) = DRA;
    if known_resources(client, version).await.contains(resource) {
        pools.set_dra();
    }
    knows.contains(NAME)
}

/// Watches pools, and nodes and pods as soon as there is one. Runs until its task is aborted.
///
/// Nobody acts before the pools are known: without them a service would be said to have none.
pub(crate) fn follow(
    client: Client,
    pools: Pools,
    (world, queue): (Arc<World>, Arc<Queue>),
    metrics: Arc<Metrics>,
    sync: Arc<Sync>,
) -> impl Future<Output = ()> + Send {
    sync.expect(NAME);
    let feed = Feed { client, pools, world, queue, metrics };
    async move {
        let resources = feed.clone().watch_pools(&sync);
        let rest = async {
            // Who has no pool pays for no watch of nodes and pods.
            while !feed.pools.has_any() {
                sleep(Duration::from_secs(1)).await;
            }
            tokio::join!(feed.watch_nodes(), feed.watch_pods());
        };
        tokio::join!(resources, rest);
    }
}

#[derive(Clone)]
struct Feed {
    client: Client,
    pools: Pools,
    world: Arc<World>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

impl Feed {
    /// Takes something in, and wakes all services if pools mean something else to them.
    fn change(&self, change: impl FnOnce(&mut Seen<'_>)) {
        if self.pools.change(change) {
            for key in self.world.declared() {
                self.queue.add(key);
            }
        }
    }

    async fn watch_pools(self, sync: &Sync) {
        let api: Api<DeserializeGuard<GpuPool>> = Api::all(self.client.clone());
        let mut listed = Vec::new();
        let put = |seen: &mut Seen<'_>, pool: DeserializeGuard<GpuPool>| match pool.0 {
            Ok(mut pool) => {
                pool.metadata.managed_fields = None;
                seen.pools.insert(pool.name_any(), pool);
            }
            Err(error) => tracing::warn!(%error, "a GpuPool cannot be read, and is left aside"),
        };
        self.events(
            api,
            |feed, event| match event {
                Event::Init => listed.clear(),
                Event::InitApply(pool) => {
                    listed.push(pool.name_any());
                    feed.change(|seen| put(seen, pool));
                }
                Event::InitDone => {
                    feed.change(|seen| seen.pools.retain(|name, _| listed.contains(name)));
                    sync.reach(NAME);
                }
                Event::Apply(pool) => feed.change(|seen| put(seen, pool)),
                Event::Delete(pool) => {
                    feed.change(|seen| drop(seen.pools.remove(&pool.name_any())))
                }
            },
            |error| {
                // Rights that were given by an older version do not have it: go on without pools.
                if is_forbidden(error) {
                    sync.reach(NAME);
                }
            },
        )
        .await;
    }

    async fn watch_nodes(&self) {
        let mut listed = Vec::new();
        self.events(
            Api::<Node>::all(self.client.clone()),
            |feed, event| match event {
                Event::Init => listed.clear(),
                Event::InitApply(node) => listed.push(GpuNode::of(&node)),
                Event::InitDone => feed.change(|seen| {
                    let nodes = listed.drain(..).map(|node| (node.name.clone(), node));
                    *seen.nodes = nodes.collect();
                    *seen.has_nodes = true;
                }),
                Event::Apply(node) => feed.change(|seen| {
                    let node = GpuNode::of(&node);
                    seen.nodes.insert(node.name.clone(), node);
                }),
                Event::Delete(node) => {
                    feed.change(|seen| drop(seen.nodes.remove(&node.name_any())))
                }
            },
            |_| {},
        )
        .await;
    }

    async fn watch_pods(&self) {
        let key = |pod: &Pod| (pod.namespace().unwrap_or_default(), pod.name_any());
        let mut listed = Vec::new();
        self.events(
            Api::<Pod>::all(self.client.clone()),
            |feed, event| match event {
                Event::Init => listed.clear(),
                Event::InitApply(pod) => listed.extend(GpuPod::of(&pod).map(|it| (key(&pod), it))),
                Event::InitDone => feed.change(|seen| *seen.pods = listed.drain(..).collect()),
                Event::Apply(pod) => match GpuPod::of(&pod) {
                    Some(found) => feed.change(|seen| drop(seen.pods.insert(key(&pod), found))),
                    None => feed.forget(&key(&pod)),
                },
                Event::Delete(pod) => feed.forget(&key(&pod)),
            },
            |_| {},
        )
        .await;
    }

    /// Most pods of a cluster want no GPU: their end is no change.
    fn forget(&self, key: &(String, String)) {
        if self.pools.has_pod(key) {
            self.change(|seen| drop(seen.pods.remove(key)));
        }
    }

    async fn events<K>(
        &self,
        api: Api<K>,
        mut take: impl FnMut(&Self, Event<K>) + Send,
        failed: impl Fn(&watcher::Error) + Send,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = pin!(watcher(api, Config::default().page_size(PAGE)).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => take(self, event),
                Err(error) => {
                    self.metrics.watch_failed(NAME);
                    failed(&error);
                    tracing::warn!(watch = %K::plural(&()), error = %Chain(&error), "a watch was interrupted");
                }
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let inner = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => error,
        _ => return false,
    };
    matches!(inner, kube_client::Error::Api(status) if status.code == 403)
}
