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
    for failures in 1.. {
        match timeout(DEADLINE, client.list_api_groups()).await {
            Ok(Ok(groups)) => {
                let versions = groups.groups.into_iter().flat_map(|group| group.versions);
                let there: BTreeSet<String> =
                    versions.map(|version| version.group_version).collect();
                let used =
                    OWNED.iter().filter(|kind| kind.is_custom).map(|kind| kind.api_version());
                return used.filter(|version| there.contains(version)).collect();
            }
            Ok(Err(error)) => {
                let error = tracing::field::display(Chain(&error));
                tracing::warn!(error, "the API server does not say which APIs it has");
            }
            Err(_) => tracing::warn!("the API server does not answer"),
        }
        sleep(backoff::delay(failures, backoff::jitter()).min(LONGEST_PAUSE)).await;
    }
    BTreeSet::new()
}
