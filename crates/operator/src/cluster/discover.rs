//! What a cluster has beyond Kubernetes' own API.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_client::Client;
use tokio::time::{sleep, timeout};

use super::Chain;
use crate::backoff;
use crate::kinds::OWNED;

/// A discovery takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The groups and versions of custom kinds that the cluster has, of those that plans use. Asks
/// until it has an answer. Cancel-safe.
pub(crate) async fn custom_apis(client: &Client) -> BTreeSet<String> {
    let groups = answer(|| client.list_api_groups()).await.map(|it| it.groups).unwrap_or_default();
    let versions = groups.into_iter().flat_map(|group| group.versions);
    let there: BTreeSet<String> = versions.map(|version| version.group_version).collect();
    let used = OWNED.iter().filter(|kind| kind.is_custom).map(|kind| kind.api_version());
    used.filter(|version| there.contains(version)).collect()
}

/// The resources of a group and version, by their plurals; none where it is not served. Asks until it
/// has an answer. Cancel-safe.
pub(crate) async fn known_resources(client: &Client, version: &str) -> BTreeSet<String> {
    let list = answer(|| client.list_api_group_resources(version)).await;
    let resources = list.map(|list| list.resources).unwrap_or_default();
    resources.into_iter().map(|resource| resource.name).collect()
}

/// What the API server says; none where there is nothing to say it of.
async fn answer<T, F>(ask: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = kube_client::Result<T>>,
{
    for failures in 1.. {
        match timeout(DEADLINE, ask()).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(kube_client::Error::Api(status))) if status.code == 404 => return None,
            Ok(Err(error)) => {
                let error = tracing::field::display(Chain(&error));
                tracing::warn!(error, "the API server does not say what it has");
            }
            Err(_) => tracing::warn!("the API server does not answer"),
        }
        sleep(backoff::delay(failures, backoff::jitter()).min(LONGEST_PAUSE)).await;
    }
    None
}
