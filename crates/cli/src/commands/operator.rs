//! `trainyard operator`.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use miette::{IntoDiagnostic, miette};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trainyard_api::scalar::Period;
use trainyard_operator::{
    Cluster, Election, LintWebhook, Pools, RequestRate, Scope, Settings, client, rbac,
};
use trainyard_packing::Policy;
use trainyard_plan::kubernetes::{PluginConfig, Profile};

use super::cluster_args::ClusterArgs;
use super::daemon::{self, Format};
use crate::print::print;
use crate::yaml::documents;

/// Run models in the cluster: watch ModelServices, and make the cluster as they say
///
/// Of several operators one acts; the others wait with all they need to go on at once.
#[derive(Args)]
pub(crate) struct Operator {
    /// Namespace of the operator itself, where its Lease is
    #[arg(
        short,
        long,
        env = "POD_NAMESPACE",
        default_value = "trainyard",
        value_name = "NAMESPACE"
    )]
    namespace: String,
    /// A namespace to work in; may be repeated [default: all]
    #[arg(
        long = "watch-namespace",
        env = "WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    watch_namespaces: Vec<String>,
    #[command(flatten)]
    objects: ClusterArgs,
    /// The ConfigMap that NVIDIA's device plugin reads; it must be in the plugin's namespace
    /// [default: trainyard-gpus in the operator's namespace]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAMESPACE/NAME")]
    device_plugin_config: PluginPlace,
    /// Label and taint the nodes that GpuPools select
    #[arg(long)]
    manage_gpu_nodes: bool,
    /// By which policy training jobs with GPUs prefer nodes where there are GpuPools, such as
    /// least-stranding, best-fit or fgd; `none` leaves all to Kubernetes' scheduler
    #[arg(long, default_value = "least-stranding", value_name = "POLICY")]
    packing: Packing,
    /// Address of metrics and health: /metrics, /healthz, /readyz
    #[arg(long, default_value = "0.0.0.0:8081", value_name = "ADDRESS")]
    address: SocketAddr,
    /// Address of the lint rules as a webhook, with TLS; none without it
    #[arg(long, value_name = "ADDRESS")]
    lint_address: Option<SocketAddr>,
    /// How long the webhook's certificates are good; they are replaced after two thirds of it
    #[arg(long, default_value = "2160h", value_name = "TIME")]
    lint_certificate_lifetime: Period,
    /// Services that are reconciled at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    workers: usize,
    /// Over what requests are averaged to decide on replicas; replicas go after as long with fewer
    #[arg(long, default_value = "60s", value_name = "TIME")]
    scaling_window: Period,
    /// Requests per second to the API server, watches not counted
    #[arg(long, default_value_t = RequestRate::default().per_second, value_name = "N")]
    qps: f64,
    /// Requests at once after a quiet time
    #[arg(long, default_value_t = RequestRate::default().burst, value_name = "N")]
    burst: u32,
    /// Context of the kubeconfig [default: the current one, or the pod's service account]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Name of this operator among those that want the Lease
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = Format::Auto, env = "TRAINYARD_LOG_FORMAT")]
    log_format: Format,
    /// Print the RBAC objects that let it do its work, and end
    #[arg(long)]
    print_rbac: bool,
    /// The service account in them
    #[arg(
        long,
        default_value = trainyard_operator::OPERATOR,
        value_name = "NAME",
        requires = "print_rbac"
    )]
    service_account: String,
}

impl Operator {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let settings = self.settings()?;
        if self.print_rbac {
            let lease = &settings.election.lease;
            let gateway = settings.cluster.objects.gateway.as_ref();
            let mut objects = rbac::manifests(&rbac::Granted {
                scope: &settings.scope,
                namespace: &self.namespace,
                account: &self.service_account,
                lease,
                gateway: gateway.map(|gateway| gateway.namespace.as_str()),
                manage_gpu_nodes: self.manage_gpu_nodes,
            });
            if self.lint_address.is_some() {
                objects.extend(rbac::lint_manifests(&self.namespace, &self.service_account));
            }
            print(documents(objects)?.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        // What a request came to is told by who made it.
        let filter = "info,kube_client::client=error,kube_client::client::builder=off";
        let name = trainyard_operator::OPERATOR.to_owned();
        let (_telemetry, runtime) = daemon::start(name, self.log_format, filter)?;
        runtime.block_on(self.operate(settings))
    }

    async fn operate(self, settings: Settings) -> miette::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate()).into_diagnostic()?;
        let mut interrupt = signal(SignalKind::interrupt()).into_diagnostic()?;
        let rate = RequestRate { per_second: self.qps, burst: self.burst };
        let client = client(self.context.as_deref(), rate).await.into_diagnostic()?;
        let stop = CancellationToken::new();
        let operating = trainyard_operator::run(settings, client, stop.clone());
        let signals = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            eprintln!("stopping: what was begun is finished first");
            stop.cancel();
            // A person in a hurry asks twice.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::select! {
            result = operating => result.into_diagnostic()?,
            () = signals => return Ok(ExitCode::from(2)),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn settings(&self) -> miette::Result<Settings> {
        if !(self.qps.is_finite() && self.qps > 0.0) {
            return Err(miette!("--qps is {}; it must be above 0", self.qps));
        }
        let scope = Scope::from(self.watch_namespaces.clone());
        let (objects, gpu_pools) = self.objects.clone().into_parts();
        let profile = objects.profile;
        Ok(Settings {
            scope,
            cluster: Cluster {
                objects,
                gpu_pools: Pools::told(gpu_pools),
                plugin_config: self.device_plugin_config.of(&self.namespace),
                manage_gpu_nodes: self.manage_gpu_nodes,
                packing: self.packing.0,
            },
            address: self.address,
            workers: self.workers,
            scaling_window: self.scaling_window.0,
            election: Election::new(self.namespace.clone(), self.identity()),
            lint: self.lint_address.map(|address| LintWebhook {
                address,
                namespace: self.namespace.clone(),
                profile: lint_profile(profile),
                certificate_lifetime: self.lint_certificate_lifetime.0,
            }),
        })
    }

    /// Unique for each process: one that was killed and starts again waits for its own Lease to
    /// run out, as anybody would.
    fn identity(&self) -> String {
        let host = || std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
        let name = self.identity.clone().unwrap_or_else(host);
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = started.map_or(0, |since| since.as_nanos());
        format!("{name}_{:x}-{:x}", std::process::id(), nanos & 0xFFFF_FFFF)
    }
}

/// The same kind of cluster, as rules know it.
fn lint_profile(profile: Profile) -> trainyard_rules::Profile {
    match profile {
        Profile::Generic => trainyard_rules::Profile::Generic,
        Profile::Eks => trainyard_rules::Profile::Eks,
        Profile::Gke => trainyard_rules::Profile::Gke,
        Profile::Aks => trainyard_rules::Profile::Aks,
    }
}

/// A policy, or none.
#[derive(Clone, Copy)]
struct Packing(Option<Policy>);

impl std::str::FromStr for Packing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            name => name.parse().map(|it| Self(Some(it))).map_err(|why| format!("{why}, none")),
        }
    }
}

/// Where the device plugin's ConfigMap is; nowhere in particular if it is empty.
#[derive(Clone, Default)]
pub(super) struct PluginPlace(Option<(String, String)>);

impl std::str::FromStr for PluginPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self(Some((namespace.to_owned(), name.to_owned()))))
            }
            _ if text.is_empty() => Ok(Self(None)),
            _ => Err("expected NAMESPACE/NAME".to_owned()),
        }
    }
}

impl PluginPlace {
    /// The place, or else the usual one in a namespace.
    pub(super) fn of(&self, home: &str) -> PluginConfig {
        let (namespace, name) =
            self.0.clone().unwrap_or_else(|| (home.to_owned(), "trainyard-gpus".to_owned()));
        PluginConfig { namespace, name }
    }
}
