//! `trainyard rollback`.

use std::process::ExitCode;

use clap::Args;
use miette::IntoDiagnostic;
use trainyard_local::socket::Request;
use trainyard_operator::RequestRate;

use super::supervisor::{State, block_on};

/// Go back to the revision before, replica by replica and without a failed request
#[derive(Args)]
pub(crate) struct Rollback {
    /// The service
    name: String,
    /// Go to this revision instead; in a cluster also by its number
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// Namespace of the service: it runs in a cluster, not on this machine
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", requires = "namespace")]
    context: Option<String>,
    #[command(flatten)]
    state: State,
}

impl Rollback {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        if let Some(namespace) = &self.namespace {
            let revision = block_on(self.in_cluster(namespace))??;
            println!("`{}` goes back to revision {revision}", self.name);
            return Ok(ExitCode::SUCCESS);
        }
        self.state.order(&Request::Rollback { service: self.name, to: self.to })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn in_cluster(&self, namespace: &str) -> miette::Result<String> {
        let context = self.context.as_deref();
        let rate = RequestRate::default();
        let client = trainyard_operator::client(context, rate).await.into_diagnostic()?.client;
        trainyard_operator::rollback(client, namespace, &self.name, self.to.as_deref())
            .await
            .into_diagnostic()
    }
}
