//! The watches that keep what other systems say.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube_client::core::DynamicObject;
use kube_client::{Api, Client, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, Event, watcher};
use serde_json::Value;
use tokio::task::JoinSet;
use trainyard_plan::QueueSystem;

use super::Elsewhere;
use super::group::{job_of, read};
use super::served::{Found, Tells};
use crate::cluster::Chain;
use crate::feed::Sync;
use crate::key::{Declared, ResourceKey};
use crate::metrics::Metrics;
use crate::names::managed_by_selector;
use crate::queue::Queue;
use crate::settings::Scope;
use crate::world::World;

/// What is said of a Job changes in bursts.
const GATHER: Duration = Duration::from_millis(100);
/// Objects of one page of a list: a Workload repeats the template of its pods.
const PAGE: u32 = 100;

/// Where the watches put what they see, and whom they wake.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) client: Client,
    pub(crate) elsewhere: Elsewhere,
    pub(crate) world: Arc<World>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sync: Arc<Sync>,
}

/// Starts a watch of each resource that was found. They run until their tasks are aborted. Nobody
/// acts before their first lists are complete.
pub(crate) fn follow(feed: &Feed, found: Vec<Found>, scope: &Scope, tasks: &mut JoinSet<()>) {
    for found in found {
        let tells = found.watched.tells;
        // Who cannot be heard is not asked.
        if tells == Tells::Groups {
            feed.elsewhere.set_installed(found.watched.system);
        }
        let namespaces = match found.watched.is_namespaced {
            true => scope.watched(),
            false => vec![None],
        };
        for namespace in namespaces {
            tasks.spawn(feed.clone().watch(found.clone(), namespace.map(str::to_owned)));
        }
    }
}

impl Feed {
    fn watch(
        self,
        found: Found,
        namespace: Option<String>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let api: Api<DynamicObject> = match &namespace {
            Some(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, &found.resource)
            }
            None => Api::all_with(self.client.clone(), &found.resource),
        };
        let (group, plural) = (found.watched.group(), found.watched.plural);
        let of = namespace.as_ref().map(|it| format!(" in {it}")).unwrap_or_default();
        let name = format!("{plural}.{group}{of}");
        // Before the task runs, so that nobody takes an empty list for a complete one.
        self.sync.expect(&name);
        let mut config = Config::default().page_size(PAGE);
        if (found.watched.system, found.watched.tells) == (QueueSystem::Volcano, Tells::Groups) {
            config = config.labels(&managed_by_selector());
        }
        async move {
            let mut events = pin!(watcher(api, config).default_backoff());
            let mut listed = BTreeSet::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitApply(object)) => {
                        listed.insert(named(&object));
                        self.put(&found, &object, true);
                    }
                    Ok(Event::InitDone) => {
                        self.keep(&found, namespace.as_deref(), &listed);
                        self.sync.reach(&name);
                    }
                    Ok(Event::Apply(object)) => self.put(&found, &object, true),
                    Ok(Event::Delete(object)) => self.put(&found, &object, false),
                    Err(error) => {
                        self.metrics.watch_failed(plural);
                        tracing::warn!(watch = name, error = %Chain(&error), "a watch was interrupted");
                    }
                }
            }
        }
    }

    fn put(&self, found: &Found, object: &DynamicObject, is_there: bool) {
        let system = found.watched.system;
        let (namespace, name) = named(object);
        let named = (namespace.as_str(), name.as_str());
        match found.watched.tells {
            Tells::Queues => {
                if self.elsewhere.put_queue(system, named, is_there) {
                    self.wake_all(&namespace);
                }
            }
            Tells::Priorities => {
                let value = object.data.get("value").and_then(Value::as_i64);
                self.elsewhere.put_priority(&name, value.filter(|_| is_there));
            }
            Tells::Groups => {
                let whole = serde_json::to_value(object).unwrap_or_default();
                let job = job_of(system, &whole).filter(|_| is_there);
                let said = job.map(|job| (job, read(system, &whole)));
                if let Some(key) = self.elsewhere.put_group(system, named, said) {
                    self.wake(key);
                }
            }
        }
    }

    fn keep(&self, found: &Found, namespace: Option<&str>, listed: &BTreeSet<(String, String)>) {
        let system = found.watched.system;
        match found.watched.tells {
            Tells::Queues => self.elsewhere.keep_queues(system, namespace, listed),
            Tells::Priorities => self.elsewhere.keep_priorities(listed),
            Tells::Groups => {
                for key in self.elsewhere.keep_groups(system, namespace, listed) {
                    self.wake(key);
                }
            }
        }
    }

    /// A Job of the same form of name may be somebody else's.
    fn wake(&self, key: ResourceKey) {
        if self.world.is_declared(&key) {
            self.queue.add_after(key, GATHER);
        }
    }

    /// A queue came or went: jobs that wait may be another's now.
    fn wake_all(&self, namespace: &str) {
        let all = self.world.declared().into_iter();
        let jobs = all.filter(|key| key.kind == Declared::TrainingJob);
        for key in jobs.filter(|key| namespace.is_empty() || *key.namespace == *namespace) {
            self.queue.add_after(key, GATHER);
        }
    }
}

fn named(object: &DynamicObject) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}
