//! The one client of the process.

use std::path::{Path, PathBuf};

use kube_client::client::ClientBuilder;
use kube_client::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
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
    #[error("the kubeconfig `{}` cannot be read", path.display())]
    NoKubeconfig { path: PathBuf, source: Box<KubeconfigError> },
    #[error("the kubeconfig's context `{context}` cannot be used")]
    NoContext { context: String, source: Box<KubeconfigError> },
    #[error("a client for {address} cannot be made")]
    Client { address: String, source: Box<kube_client::Error> },
}

/// Which cluster, as command lines say it. With nothing said: the current context of the kubeconfig,
/// or else the service account of the pod that this process runs in.
#[derive(Debug, Clone, Default)]
pub struct ClusterChoice {
    /// A file in place of `KUBECONFIG` and `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
}

impl ClusterChoice {
    /// What the cluster is called that would be used, without asking it; none if none is known.
    pub fn name(&self) -> Option<String> {
        if let Some(context) = &self.context {
            return Some(format!("context `{context}`"));
        }
        let file = self.kubeconfig.as_deref().map_or_else(Kubeconfig::read, read).ok();
        let context = file.and_then(|file| {
            let current = file.current_context.filter(|current| !current.is_empty())?;
            file.contexts.iter().any(|context| context.name == current).then_some(current)
        });
        match context {
            Some(context) => Some(format!("context `{context}`")),
            None if self.kubeconfig.is_some() => None,
            None => Config::incluster_env().is_ok().then(|| "the cluster of this pod".to_owned()),
        }
    }
}

fn read(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
    Kubeconfig::read_from(path)
}

/// A client that keeps to a rate and does not wait for ever, and its counters.
///
/// With a context, that of the kubeconfig; without one, the kubeconfig's current context, or the
/// service account of the pod.
pub async fn client(
    context: Option<&str>,
    rate: RequestRate,
) -> Result<CountedClient, ClientError> {
    let choice = ClusterChoice { kubeconfig: None, context: context.map(str::to_owned) };
    client_of(&choice, rate).await
}

/// [`client`] for a cluster that may be said by a file.
pub async fn client_of(
    choice: &ClusterChoice,
    rate: RequestRate,
) -> Result<CountedClient, ClientError> {
    let options = KubeConfigOptions { context: choice.context.clone(), ..Default::default() };
    let no_context = |source| ClientError::NoContext {
        context: choice.context.clone().unwrap_or_else(|| "the current one".to_owned()),
        source: Box::new(source),
    };
    let config = match (&choice.kubeconfig, &choice.context) {
        (Some(path), _) => {
            let file = read(path).map_err(|source| ClientError::NoKubeconfig {
                path: path.clone(),
                source: Box::new(source),
            })?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(no_context)?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(no_context)?,
        (None, None) => Config::infer()
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
