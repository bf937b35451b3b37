//! `cargo xtask cluster`: a real Kubernetes on this machine, for development and tests.
//!
//! Built from Go modules that `tests/cluster/build` pins; each node is a network and a mount
//! namespace with its own containerd, kubelet and kube-proxy. Nothing leaves those namespaces, and
//! the host's routes stay as they are. `docs/cluster.md` says how to use it.

mod addons;
pub(crate) mod build;
mod cgroup;
mod chaos;
mod control_plane;
mod down;
mod host;
mod images;
mod kubectl;
mod layout;
mod network;
mod node;
mod pki;
mod process;
mod settings;
mod up;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

pub(crate) use build::Build;
pub(crate) use host::missing as host_misses;
use layout::Layout;

#[derive(Args)]
pub(crate) struct Cluster {
    /// Which cluster; several may stand side by side
    #[arg(long, default_value = "default", global = true, env = "TRAINYARD_TEST_CLUSTER")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a cluster and wait until its nodes are ready
    Up(up::Up),
    /// End a cluster, or what a killed run left of one
    Down,
    /// Print nodes and pods
    Status,
    /// Run a command in the control plane's network, with KUBECONFIG and kubectl at hand
    Exec {
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Import an OCI image archive into every node
    Load {
        /// The archive, such as `cargo xtask image` writes
        image: PathBuf,
    },
    /// Break something, or mend it
    #[command(subcommand)]
    Chaos(chaos::Chaos),
    /// Build programs of the cluster without starting one, and print where they are
    Build {
        /// Folders of `tests/cluster/build`, such as `kubeconform`; all that a plain `up` needs if none
        names: Vec<String>,
    },
    /// Say whether this machine can run a cluster; exit code 1 if not
    Check,
}

impl Cluster {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let layout = Layout::of(&self.name)?;
        match self.action {
            Action::Up(up) => up.run(&layout),
            Action::Down => down::run(&layout),
            Action::Status => status(&layout),
            Action::Exec { command } => exec(&layout, &command),
            Action::Load { image } => images::load(&layout, &image),
            Action::Chaos(chaos) => chaos.run(&layout),
            Action::Build { names } => build_only(&names),
            Action::Check => check(),
        }
    }
}

fn status(layout: &Layout) -> anyhow::Result<()> {
    let kubectl = kubectl::Kubectl::of(layout)?;
    kubectl.run(["get", "nodes", "-o", "wide"])?;
    println!();
    kubectl.run(["get", "pods", "--all-namespaces", "-o", "wide"])
}

fn exec(layout: &Layout, command: &[OsString]) -> anyhow::Result<()> {
    let kubectl = kubectl::Kubectl::of(layout)?;
    let (program, arguments) = command.split_first().context("a command is required")?;
    // Takes this process's place, so that signals and the exit code are the command's own.
    Err(kubectl.inside(program).args(arguments).exec())
        .with_context(|| format!("cannot start {}", program.display()))
}

fn build_only(names: &[String]) -> anyhow::Result<()> {
    let builds = if names.is_empty() {
        Build::core(&settings::Version::MAIN.parse()?)?
    } else {
        names.iter().map(|name| Build::named(name)).collect::<anyhow::Result<_>>()?
    };
    for build in builds {
        println!("{}", build.folder()?.display());
    }
    Ok(())
}

fn check() -> anyhow::Result<()> {
    match host::missing() {
        None => {
            println!("this machine can run a cluster");
            Ok(())
        }
        Some(reason) => anyhow::bail!("this machine cannot run a cluster: {reason}"),
    }
}
