//! The one client of the process.

use kube_client::client::ClientBuilder;
use kube_client::config::{KubeConfigOptions, KubeconfigError};
use kube_client::{Client, Config};

use super::patience::Patience;
use super::throttle::{RequestCounts, Throttle};
use crate::settings::RequestRate;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no cluster is known: neither a kubeconfig (KUBECONFIG or ~/.kube/config) nor the service account of a pod can be read"
    )]
    NoCluster { source: Box<kube_client::config::InferConfigError> },
    #[error("the kubeconfig's context `{context}` cannot be used")]
    NoContext { context: String, source: Box<KubeconfigError> },
    #[error("a client for {address} cannot be made")]
    Client { address: String, source: Box<kube_client::Error> },
}

/// A client that keeps to a rate and does not wait for ever, and its counters.
///
/// With a context, that of the kubeconfig; without one, the kubeconfig's current context, or the
/// service account of the pod.
pub async fn client(
    context: Option<&str>,
    rate: RequestRate,
) -> Result<CountedClient, ClientError> {
    let config = match context {
        Some(context) => {
            let options =
                KubeConfigOptions { context: Some(context.to_owned()), ..Default::default() };
            Config::from_kubeconfig(&options).await.map_err(|source| ClientError::NoContext {
                context: context.to_owned(),
                source: Box::new(source),
            })?
        }
        None => Config::infer()
            .await
            .map_err(|source| ClientError::NoCluster { source: Box::new(source) })?,
    };
    with_config(config, rate)
}

/// A client of the cluster that a configuration names.
pub(super) fn with_config(
    mut config: Config,
    rate: RequestRate,
) -> Result<CountedClient, ClientError> {
    // A worker that sleeps on a busy server does nothing else; the queue has its own back-off.
    config.default_retry = false;
    let address = config.cluster_url.to_string();
    let failed =
        |source| ClientError::Client { address: address.clone(), source: Box::new(source) };
    let counts = RequestCounts::default();
    let builder = ClientBuilder::try_from(config).map_err(failed)?;
    // Outside, so that the wait for a turn is not taken for the server's.
    let throttle = Throttle::new(rate, counts.clone());
    let client = builder.with_layer(&Patience).with_layer(&throttle).build();
    Ok(CountedClient { client, counts })
}

/// A client and how often it was used.
#[derive(Clone)]
pub struct CountedClient {
    pub client: Client,
    pub(crate) counts: RequestCounts,
}
