//! The lint rules as a validating webhook.
//!
//! The API server asks before it stores an object; the answer is warnings, and in namespaces that
//! enforce a refusal of what certainly will not work. Every operator answers, whether it leads or
//! not. Nothing here can lock a cluster out: the configuration's failure policy is `Ignore`.

mod keeper;
mod keys;
mod review;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use kube_client::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trainyard_rules::Profile;
use trainyard_rules::alone::Alone;

use crate::metrics::Metrics;
use crate::names::LINT;

/// Settings of the webhook.
#[derive(Debug, Clone)]
pub struct LintWebhook {
    /// Where the API server asks, with TLS.
    pub address: SocketAddr,
    /// Namespace of its Service and of the Secret with its keys.
    pub namespace: String,
    /// Whose cluster it is: rules differ.
    pub profile: Profile,
    /// For how long a certificate is good; it is replaced after two thirds of that.
    pub certificate_lifetime: Duration,
}

/// What the webhook's configuration is called: there may be several installations.
pub(crate) fn configuration_name(namespace: &str) -> String {
    format!("{namespace}.lint.trainyard.dev")
}

/// The names by which the API server reaches the Service.
fn host_names(namespace: &str) -> Vec<String> {
    vec![format!("{LINT}.{namespace}.svc"), format!("{LINT}.{namespace}.svc.cluster.local")]
}

/// Starts to answer, and to keep the keys and the list of nodes fresh.
pub(crate) fn start(
    webhook: &LintWebhook,
    listener: TcpListener,
    client: Client,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let certificate = Arc::new(server::Certificate::default());
    let linter = Arc::new(ArcSwap::from_pointee(Alone::new(webhook.profile, None)));
    let keeper = keeper::Keeper::new(client.clone(), webhook, certificate.clone());
    tasks.spawn(async move { keeper.keep().await });
    let (profile, nodes_of) = (webhook.profile, linter.clone());
    tasks.spawn(async move { keeper::keep_nodes(client, profile, nodes_of).await });
    let state = server::State { linter, metrics };
    tasks.spawn(server::serve(listener, certificate, state, stop));
}
