//! `trainyard install` and `trainyard uninstall`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::IntoDiagnostic;
use trainyard_api::scalar::Period;
use trainyard_operator::install::{self, Change, Done, Installation, Lint};
use trainyard_operator::{CountedClient, GATEWAY, Scope};

use super::supervisor::block_on;
use super::which_cluster::WhichCluster;
use crate::print::print;
use crate::yaml::documents;

/// Put Trainyard into a cluster, or upgrade it: definitions, rights, operator and gateway
///
/// Doing it again changes nothing.
#[derive(Args)]
pub(crate) struct Install {
    #[command(flatten)]
    place: Place,
    /// Trainyard's image
    #[arg(long, env = "TRAINYARD_IMAGE", default_value_t = super::cluster_args::default_image())]
    image: String,
    /// When nodes ask the registry for the image
    #[arg(long, value_enum, default_value_t, env = "TRAINYARD_IMAGE_PULL_POLICY")]
    image_pull_policy: super::cluster_args::PullPolicyName,
    /// Pods of the operator, of which one acts
    #[arg(long, default_value_t = 2, value_name = "N")]
    operators: u32,
    /// Pods of the gateway
    #[arg(long, default_value_t = 2, value_name = "N")]
    gateways: u32,
    /// A further argument of the operator, such as --operator-arg=--profile=eks; may be repeated
    #[arg(long = "operator-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    operator_args: Vec<String>,
    /// Let the operator label and taint the nodes that GpuPools select; without it, a pool's status
    /// has the commands for it
    #[arg(long)]
    manage_gpu_nodes: bool,
    /// A Gateway of the Gateway API that should route to Trainyard's gateway
    #[arg(long, value_name = "NAMESPACE/NAME")]
    route: Option<super::cluster_args::Parent>,
    /// Check what is created by the lint rules: what happens in namespaces without the label
    /// trainyard.dev/lint=audit|enforce|off [default: no checks at all]
    #[arg(long, value_enum, value_name = "MODE")]
    lint: Option<LintMode>,
    /// Print the objects, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for operator and gateway; 0s does not wait
    #[arg(long, default_value = "5m", value_name = "TIME")]
    timeout: Period,
}

/// Take operator, gateway and rights out of a cluster
///
/// Definitions, services and their replicas stay.
#[derive(Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, ValueEnum)]
enum LintMode {
    /// Nothing
    Labelled,
    /// Warnings
    Audit,
    /// What will not work is refused, the rest warned of
    Enforce,
}

impl From<LintMode> for Lint {
    fn from(mode: LintMode) -> Self {
        match mode {
            LintMode::Labelled => Self::Labelled,
            LintMode::Audit => Self::Audit,
            LintMode::Enforce => Self::Enforce,
        }
    }
}

/// Where Trainyard is installed
#[derive(Args, Clone)]
struct Place {
    /// Namespace of operator and gateway
    #[arg(short, long, default_value = "trainyard", value_name = "NAMESPACE")]
    namespace: String,
    /// A namespace with services; may be repeated [default: all]
    #[arg(long = "watch-namespace", value_delimiter = ',', value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,
    #[command(flatten)]
    cluster: WhichCluster,
}

impl Place {
    fn scope(&self) -> Scope {
        self.watch_namespaces.clone().into()
    }

    async fn client(&self) -> miette::Result<CountedClient> {
        self.cluster.client().await.into_diagnostic()
    }
}

impl Install {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let installation = Installation {
            namespace: self.place.namespace.clone(),
            image: self.image.clone(),
            image_pull_policy: self.image_pull_policy.as_str(),
            scope: self.place.scope(),
            operator_args: self.operator_args.clone(),
            kubernetes_version: None,
            operators: self.operators,
            gateways: self.gateways,
            manage_gpu_nodes: self.manage_gpu_nodes,
            route: self.route.clone().map(Into::into),
            lint: self.lint.map(Into::into),
        };
        if self.dry_run {
            let mut objects = vec![installation.namespace()];
            for crd in trainyard_api::crds() {
                objects.push(serde_json::to_value(crd).into_diagnostic()?);
            }
            objects.extend(installation.objects());
            objects.extend(installation.admission());
            print(documents(objects)?.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        block_on(self.apply(installation))??;
        Ok(ExitCode::SUCCESS)
    }

    async fn apply(&self, mut installation: Installation) -> miette::Result<()> {
        let client = self.place.client().await?.client;
        installation.kubernetes_version =
            install::oldest_version(&client).await.into_diagnostic()?;
        install::install(&client, &installation, tell).await.into_diagnostic()?;
        if self.timeout.0.is_zero() {
            return Ok(());
        }
        let namespace = &installation.namespace;
        install::available(&client, namespace, self.timeout.0).await.into_diagnostic()?;
        println!("operator and gateway are ready; models answer at http://{GATEWAY}.{namespace}");
        Ok(())
    }
}

impl Uninstall {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let installation = Installation {
            namespace: self.place.namespace.clone(),
            image: String::new(),
            image_pull_policy: "",
            scope: self.place.scope(),
            operator_args: Vec::new(),
            kubernetes_version: None,
            operators: 0,
            gateways: 0,
            manage_gpu_nodes: false,
            route: None,
            lint: None,
        };
        let removed = async {
            let client = self.place.client().await?.client;
            install::uninstall(&client, &installation, tell).await.into_diagnostic()
        };
        block_on(removed)??;
        println!(
            "services, their replicas, pools, the definitions and the namespace `{}` stay",
            self.place.namespace
        );
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(done: &Done) {
    let change = match done.change {
        Change::Created => "created",
        Change::Changed => "changed",
        Change::Unchanged => "unchanged",
        Change::Deleted => "deleted",
    };
    println!("{} {change}", done.object);
}
