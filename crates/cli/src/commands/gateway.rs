//! `trainyard gateway`: the inference proxy of a cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use miette::{Context, IntoDiagnostic};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trainyard_api::scalar::Period;
use trainyard_gateway::{Gateway as Proxy, Settings, Trace};
use trainyard_operator::ingress::feed;
use trainyard_operator::{RequestRate, Scope, client, report};
use trainyard_telemetry::ProcessMetrics;

use super::daemon::{self, Format};

/// Serve the model services of a Kubernetes cluster on one port
#[derive(Args)]
pub(crate) struct Gateway {
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
    host: IpAddr,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port at which the operator hears what is counted; without it, nothing is told
    #[arg(long, value_name = "PORT")]
    report_port: Option<u16>,
    /// Serve services of this namespace only; may be repeated
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Context of the kubeconfig [default: the current one, or the pod's service account]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Believe `x-forwarded-for`: another proxy stands before this one
    #[arg(long)]
    trust_forwarded: bool,
    /// How long new connections are still taken after SIGTERM, until nobody is sent here any more
    #[arg(long, default_value = "5s", value_name = "TIME")]
    leave_delay: Period,
    /// How long requests in flight may take after that
    #[arg(long, default_value = "30s", value_name = "TIME")]
    drain_timeout: Period,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = Format::Auto, env = "TRAINYARD_LOG_FORMAT")]
    log_format: Format,
    /// Log each request
    #[arg(long)]
    access_log: bool,
}

impl Gateway {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let name = trainyard_operator::GATEWAY.to_owned();
        let (_telemetry, runtime) = daemon::start(name, self.log_format, "info")?;
        runtime.block_on(self.serve())?;
        Ok(ExitCode::SUCCESS)
    }

    async fn serve(self) -> miette::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).into_diagnostic()?;
        let mut interrupt = signal(SignalKind::interrupt()).into_diagnostic()?;
        let listener = self.listen(self.port)?;
        let report_listener = self.report_port.map(|port| self.listen(port)).transpose()?;
        let address = listener.local_addr().into_diagnostic()?;
        let cluster =
            client(self.context.as_deref(), RequestRate::default()).await.into_diagnostic()?;

        let gateway = Proxy::new(self.settings());
        gateway.with_registry(|registry| registry.register_collector(Box::new(ProcessMetrics)));
        tracing::info!(%address, namespaces = ?self.namespace, "the gateway listens");
        let stop = CancellationToken::new();
        let serving = gateway.serve(listener, stop.clone());
        let scope = Scope::from(self.namespace);
        // Routes are kept up to date until the last request has gone.
        let feeding =
            tokio::spawn(feed(cluster.client, gateway.clone(), scope, CancellationToken::new()));
        let leave = self.leave_delay.0;
        // Until then the operator hears of them, too.
        let reporting = report_listener.map(|listener| {
            let reporting = report(listener, gateway.clone());
            tokio::spawn(async move {
                if let Err(error) = reporting.await {
                    tracing::error!(%error, "the operator does not hear what is counted any more");
                }
            })
        });
        let signals = async {
            let delay = tokio::select! {
                _ = terminate.recv() => leave,
                // A person at a terminal need not wait.
                _ = interrupt.recv() => Duration::ZERO,
            };
            tracing::info!(?delay, "stopping: new connections are taken for a while");
            tokio::time::sleep(delay).await;
            stop.cancel();
        };
        let (result, ()) = tokio::join!(serving, signals);
        feeding.abort();
        if let Some(reporting) = reporting {
            reporting.abort();
        }
        result.into_diagnostic().wrap_err("the listener failed")
    }

    fn listen(&self, port: u16) -> miette::Result<TcpListener> {
        let bind = |host| TcpListener::bind(SocketAddr::new(host, port));
        let bound = match bind(self.host) {
            // A kernel without IPv6.
            Err(error) if self.host == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                bind(Ipv4Addr::UNSPECIFIED.into()).map_err(|_| error)
            }
            bound => bound,
        };
        bound
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot listen on port {port} of {}", self.host))
    }

    fn settings(&self) -> Settings {
        Settings {
            drain_timeout: self.drain_timeout.0,
            trust_forwarded: self.trust_forwarded,
            access_log: self.access_log,
            // One service that cannot answer must not take all others off the air.
            ready_by_table: true,
            trace: trainyard_telemetry::is_exporting().then_some(Trace {
                set_parent: trainyard_telemetry::set_parent,
                inject: trainyard_telemetry::inject,
            }),
            ..Settings::default()
        }
    }
}
