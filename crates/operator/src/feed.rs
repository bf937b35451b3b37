//! The watches that keep the [`World`] as the cluster is, and wake the services that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use kube_client::core::{ApiResource, DeserializeGuard, NamespaceResourceScope};
use kube_client::{Api, Client, Resource};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, Event, watcher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use trainyard_api::{ModelService, TrainingJob};

use crate::cluster::Chain;
use crate::key::{Declared, ResourceKey};
use crate::kinds::{KindIndex, OWNED, owned};
use crate::metrics::Metrics;
use crate::names::managed_by_selector;
use crate::pods::PodFacts;
use crate::queue::Queue;
use crate::settings::Scope;
use crate::world::{
    Child, Keep, Observed, Release, Source, World, belongs_to, resource_version, strip,
};

/// What happens to a service's parts comes in bursts: a pod that starts changes five times within
/// a second, and its Deployment with it.
const GATHER: Duration = Duration::from_millis(100);

/// Objects per page of a list; a Deployment has about 10 KiB with its managed fields, and a page of
/// each kind may be in memory at once.
const PAGE: u32 = 100;

/// Where all watches put what they see.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) client: Client,
    pub(crate) world: Arc<World>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sync: Arc<Sync>,
}

/// Which watches have seen all that there is.
#[derive(Debug)]
pub(crate) struct Sync {
    done: Mutex<BTreeMap<String, bool>>,
    all: watch::Sender<bool>,
}

impl Default for Sync {
    fn default() -> Self {
        Self { done: Mutex::default(), all: watch::Sender::new(false) }
    }
}

impl Sync {
    pub(crate) fn expect(&self, name: &str) {
        self.lock().insert(name.to_owned(), false);
    }

    pub(crate) fn reach(&self, name: &str) {
        let mut done = self.lock();
        done.insert(name.to_owned(), true);
        if done.values().all(|is_done| *is_done) {
            self.all.send_replace(true);
        }
    }

    /// Whether every watch has seen all that there is; false before there are any.
    pub(crate) fn is_reached(&self) -> bool {
        *self.all.borrow()
    }

    /// The watches that have not seen all yet.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.lock().iter().filter(|(_, done)| !**done).map(|(name, _)| name.clone()).collect()
    }

    /// Waits until every watch has seen all that there is. Cancel-safe.
    pub(crate) async fn reached(&self) {
        let mut all = self.all.subscribe();
        // The sender lives as long as `self`.
        let _ = all.wait_for(|all| *all).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, bool>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// Starts every watch. They run until their tasks are aborted.
    ///
    /// `apis` are the groups and versions that the cluster has beyond Kubernetes' own; a cluster whose
    /// definitions are older than this operator may not have jobs.
    pub(crate) fn start(
        &self,
        scope: &Scope,
        apis: &BTreeSet<String>,
        has_jobs: bool,
        tasks: &mut JoinSet<()>,
    ) {
        let mut follows: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        for namespace in scope.watched() {
            let ours = || Config::default().page_size(PAGE).labels(&managed_by_selector());
            let all = || Config::default().page_size(PAGE);
            follows.push(Box::pin(self.clone().follow(
                declared::<ModelService>(&self.client, namespace),
                all(),
                Declarations(Declared::ModelService),
                namespace.map(str::to_owned),
            )));
            if has_jobs {
                follows.push(Box::pin(self.clone().follow(
                    declared::<TrainingJob>(&self.client, namespace),
                    all(),
                    Declarations(Declared::TrainingJob),
                    namespace.map(str::to_owned),
                )));
            }
            let pods = observed(&self.client, &ApiResource::erase::<Pod>(&()), namespace);
            follows.push(Box::pin(self.clone().follow(
                pods,
                ours(),
                Pods,
                namespace.map(str::to_owned),
            )));
            let resource = ApiResource::erase::<ControllerRevision>(&());
            let releases = observed(&self.client, &resource, namespace);
            follows.push(Box::pin(self.clone().follow(
                releases,
                ours(),
                Releases,
                namespace.map(str::to_owned),
            )));
            for index in 0..OWNED.len() {
                let Ok(index) = KindIndex::try_from(index) else {
                    continue;
                };
                if owned(index).is_custom && !apis.contains(&owned(index).api_version()) {
                    continue;
                }
                let children = observed(&self.client, &owned(index).resource(), namespace);
                let namespace = namespace.map(str::to_owned);
                follows.push(Box::pin(self.clone().follow(
                    children,
                    ours(),
                    Children(index),
                    namespace,
                )));
            }
        }
        for follow in follows {
            tasks.spawn(follow);
        }
    }

    fn follow<K, S>(
        self,
        api: Api<K>,
        config: Config,
        shelf: S,
        namespace: Option<String>,
    ) -> impl Future<Output = ()> + Send
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        S: Shelf<K>,
    {
        let name = match &namespace {
            Some(namespace) => format!("{} in {namespace}", shelf.name()),
            None => shelf.name().to_owned(),
        };
        // Before the task runs, so that nobody takes an empty list for a complete one.
        self.sync.expect(&name);
        async move {
            let mut events = pin!(watcher(api, config).default_backoff());
            let mut epoch = 0;
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => epoch += 1,
                    Ok(Event::InitApply(object) | Event::Apply(object)) => {
                        if let Some(key) = shelf.put(&self.world, object, epoch) {
                            self.wake(key, &shelf);
                        }
                    }
                    Ok(Event::Delete(object)) => {
                        if let Some(key) = shelf.key(&object) {
                            self.world.remove(
                                &key,
                                shelf.source(),
                                object.meta().name.as_deref().unwrap_or_default(),
                                resource_version(object.meta()),
                            );
                            self.wake(key, &shelf);
                        }
                    }
                    Ok(Event::InitDone) => {
                        for key in self.world.sweep(shelf.source(), namespace.as_deref(), epoch) {
                            self.wake(key, &shelf);
                        }
                        self.sync.reach(&name);
                    }
                    Err(error) => {
                        self.metrics.watch_failed(shelf.name());
                        tracing::warn!(
                            watch = name,
                            error = %Chain(&error),
                            "a watch was interrupted"
                        );
                    }
                }
            }
        }
    }

    fn wake<K>(&self, key: ResourceKey, shelf: &impl Shelf<K>) {
        if matches!(shelf.source(), Source::Declared(_)) {
            self.queue.add(key);
        } else {
            self.queue.add_after(key, GATHER);
        }
    }
}

fn declared<T>(client: &Client, namespace: Option<&str>) -> Api<DeserializeGuard<T>>
where
    T: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn observed<T: Keep>(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
) -> Api<Observed<T>> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// How objects of one kind get into the world.
trait Shelf<K>: Send + std::marker::Sync + 'static {
    fn source(&self) -> Source;

    fn name(&self) -> &'static str;

    /// The service or job that the object belongs to.
    fn key(&self, object: &K) -> Option<ResourceKey>;

    /// Takes the object in; the service to wake if it is news.
    fn put(&self, world: &World, object: K, epoch: u32) -> Option<ResourceKey>;
}

struct Declarations(Declared);

impl<T> Shelf<DeserializeGuard<T>> for Declarations
where
    T: Resource<DynamicType = ()> + Serialize,
{
    fn source(&self) -> Source {
        Source::Declared(self.0)
    }

    fn name(&self) -> &'static str {
        self.0.plural()
    }

    fn key(&self, object: &DeserializeGuard<T>) -> Option<ResourceKey> {
        let metadata = object.meta();
        let (namespace, name) = (metadata.namespace.as_deref()?, metadata.name.as_deref()?);
        Some(ResourceKey::new(self.0, namespace, name))
    }

    fn put(
        &self,
        world: &World,
        mut object: DeserializeGuard<T>,
        epoch: u32,
    ) -> Option<ResourceKey> {
        let key = self.key(&object)?;
        strip(object.meta_mut());
        world.put_resource(key.clone(), object, epoch).then_some(key)
    }
}

struct Pods;

impl Shelf<Observed<PodFacts>> for Pods {
    fn source(&self) -> Source {
        Source::Pods
    }

    fn name(&self) -> &'static str {
        "pods"
    }

    fn key(&self, object: &Observed<PodFacts>) -> Option<ResourceKey> {
        belongs_to(object.meta())
    }

    fn put(&self, world: &World, object: Observed<PodFacts>, epoch: u32) -> Option<ResourceKey> {
        let key = self.key(&object)?;
        world.put_pod(key.clone(), object.kept, epoch).then_some(key)
    }
}

struct Releases;

impl Shelf<Observed<Option<Release>>> for Releases {
    fn source(&self) -> Source {
        Source::Releases
    }

    fn name(&self) -> &'static str {
        "controllerrevisions"
    }

    fn key(&self, object: &Observed<Option<Release>>) -> Option<ResourceKey> {
        belongs_to(object.meta())
    }

    fn put(
        &self,
        world: &World,
        object: Observed<Option<Release>>,
        epoch: u32,
    ) -> Option<ResourceKey> {
        let key = self.key(&object)?;
        world.put_release(key.clone(), object.kept?, epoch).then_some(key)
    }
}

struct Children(KindIndex);

impl Shelf<Observed<Option<Child>>> for Children {
    fn source(&self) -> Source {
        Source::Children(self.0)
    }

    fn name(&self) -> &'static str {
        owned(self.0).plural
    }

    fn key(&self, object: &Observed<Option<Child>>) -> Option<ResourceKey> {
        belongs_to(object.meta())
    }

    fn put(
        &self,
        world: &World,
        object: Observed<Option<Child>>,
        epoch: u32,
    ) -> Option<ResourceKey> {
        let key = self.key(&object)?;
        world.put_child(key.clone(), object.kept?.with_kind(self.0), epoch).then_some(key)
    }
}

#[test]
fn all_is_seen_once_every_watch_has_seen_all() {
    let sync = Sync::default();
    assert!(!sync.is_reached());
    sync.expect("pods");
    sync.expect("services");
    sync.reach("pods");
    assert!(!sync.is_reached());
    assert_eq!(sync.missing(), ["services"]);
    sync.reach("services");
    sync.reach("pods");
    assert!(sync.is_reached() && sync.missing().is_empty());
}
