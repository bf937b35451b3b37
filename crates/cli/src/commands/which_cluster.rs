//! Which cluster a command asks.

use std::path::PathBuf;

use clap::Args;
use trainyard_operator::{ClientError, ClusterChoice, CountedClient, RequestRate, client_of};

/// The cluster of a context
#[derive(Args, Clone)]
pub(super) struct WhichCluster {
    /// Cluster of this context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl WhichCluster {
    /// Whether one was named.
    pub(super) fn is_named(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }

    pub(super) fn choice(&self) -> ClusterChoice {
        ClusterChoice { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    /// A client of it.
    pub(super) async fn client(&self) -> Result<CountedClient, ClientError> {
        client_of(&self.choice(), RequestRate::default()).await
    }
}
