//! The watch that keeps the queues as the cluster has them.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use kube_client::core::DeserializeGuard;
use kube_client::{Api, Client, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, Event, watcher};
use trainyard_api::Queue;

use super::Queues;
use crate::cluster::Chain;
use crate::feed::Sync;
use crate::metrics::Metrics;

/// The watch's name among those that must have seen all before anybody acts.
const NAME: &str = "queues";

/// Watches queues until its task is aborted. Nobody acts before they are known: without them a job
/// would be said to have none.
pub(crate) fn follow(
    client: Client,
    queues: Queues,
    metrics: Arc<Metrics>,
    sync: Arc<Sync>,
) -> impl Future<Output = ()> + Send {
    sync.expect(NAME);
    async move {
        let api: Api<DeserializeGuard<Queue>> = Api::all(client);
        let mut events = pin!(watcher(api, Config::default()).default_backoff());
        let mut listed: Vec<String> = Vec::new();
        let put = |queue: DeserializeGuard<Queue>| match queue.0 {
            Ok(mut queue) => {
                queue.metadata.managed_fields = None;
                queues.change(|all| drop(all.insert(queue.name_any(), queue)));
            }
            Err(error) => tracing::warn!(%error, "a Queue cannot be read, and is left aside"),
        };
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(queue)) => {
                    listed.push(queue.name_any());
                    put(queue);
                }
                Ok(Event::InitDone) => {
                    queues.change(|all| all.retain(|name, _| listed.contains(name)));
                    sync.reach(NAME);
                }
                Ok(Event::Apply(queue)) => put(queue),
                Ok(Event::Delete(queue)) => {
                    queues.change(|all| drop(all.remove(&queue.name_any())));
                }
                Err(error) => {
                    metrics.watch_failed(NAME);
                    tracing::warn!(watch = NAME, error = %Chain(&error), "a watch was interrupted");
                }
            }
        }
    }
}
