//! `cluster chaos`: what goes wrong with nodes, on purpose.

use clap::{Subcommand, ValueEnum};

use super::addons::gpus;
use super::kubectl::Kubectl;
use super::layout::Layout;
use super::settings::Settings;
use super::{network, node, up};

#[derive(Subcommand)]
pub(crate) enum Chaos {
    /// Kill kubelet, containerd and all containers of a node at once
    KillNode {
        node: String,
        /// Pull its cable first: connections hang, as with a power cut, instead of being reset
        #[arg(long)]
        silent: bool,
    },
    /// Bring a killed node back, as after a reboot
    RestartNode { node: String },
    /// Pull a node's cable; everything on it runs on
    Partition { node: String },
    /// Plug a node's cable in again
    Heal { node: String },
    /// Evict a node's pods and admit no new ones
    Drain {
        node: String,
        /// How many seconds evictions may take
        #[arg(long, default_value_t = 300, value_name = "SECONDS")]
        timeout: u32,
    },
    /// Let pods onto a drained node again
    Uncordon { node: String },
    /// Taint a node with KEY=VALUE:EFFECT, or remove a taint with KEY:EFFECT-
    Taint { node: String, taint: String },
    /// Say that a fake GPU is broken, or whole again
    GpuHealth {
        node: String,
        /// Which of the node's GPUs, from 0
        gpu: u32,
        health: Health,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Health {
    Healthy,
    Unhealthy,
}

impl Chaos {
    pub(crate) fn run(self, layout: &Layout) -> anyhow::Result<()> {
        let settings = Settings::read(layout)?;
        let kubectl = Kubectl::of(layout)?;
        let find = |name: &str| layout.node_named(name, settings.nodes);
        match self {
            Self::KillNode { node, silent } => {
                let _lock = up::lock(layout)?;
                let node = find(&node)?;
                if silent {
                    network::connect(&node, false)?;
                }
                node::kill(&node)
            }
            Self::RestartNode { node } => {
                let _lock = up::lock(layout)?;
                let node = find(&node)?;
                node::kill(&node)?;
                node::forget_boot(&node)?;
                network::connect(&node, true)?;
                node::start(&node, &settings)
            }
            Self::Partition { node } => network::connect(&find(&node)?, false),
            Self::Heal { node } => network::connect(&find(&node)?, true),
            // Simulated nodes may be named here too, so the API server is who knows the names.
            Self::Drain { node, timeout } => kubectl.run([
                "drain",
                &node,
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                &format!("--timeout={timeout}s"),
            ]),
            Self::Uncordon { node } => kubectl.run(["uncordon", &node]),
            Self::Taint { node, taint } => {
                kubectl.run(["taint", "--overwrite", "nodes", &node, &taint])
            }
            Self::GpuHealth { node, gpu, health } => {
                gpus::set_health(&find(&node)?, gpu, matches!(health, Health::Healthy))
            }
        }
    }
}
