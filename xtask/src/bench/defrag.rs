//! `cargo xtask bench defrag`: how long it takes to read a large cluster's snapshot, to propose moves
//! in it, and to choose nodes for a gang.
//!
//! Nodes of eight GPUs are filled by pods of one to eight, placed at random, of which a part leaves
//! again; what that leaves is fragments. The crates that read are not optimised in development builds.

use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use trainyard_diagnose::{Moving, Snapshot, occupancy};
use trainyard_packing::{Outcome, Policy};

#[derive(Args)]
pub(crate) struct Defrag {
    /// Nodes
    #[arg(long, default_value_t = 1000)]
    nodes: u32,
    /// Pods that wait for a whole node
    #[arg(long, default_value_t = 20)]
    waiting: u32,
    /// Moves that are proposed at most
    #[arg(long, default_value_t = 40)]
    moves: usize,
}

/// GPUs of a node, and cores for each.
const GPUS: u32 = 8;
const CORES: u32 = 12;

impl Defrag {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let snapshot = Snapshot { objects: self.objects(), ..Snapshot::default() };
        let clock = Instant::now();
        let seen = occupancy(&snapshot, Moving::Services).context("the snapshot is not read")?;
        let read = clock.elapsed();
        let asked = seen.defrag(Policy::LeastStranding, self.moves);
        let clock = Instant::now();
        let proposal = asked.propose();
        let proposed = clock.elapsed();
        let clock = Instant::now();
        let nodes = asked.prefer(0, 64).map_or(0, |it| it.sites.len());
        let preferred = clock.elapsed();
        let is_in = |it: &&Outcome| matches!(it, Outcome::Fits(_) | Outcome::FitsAfterMoves(_));
        println!(
            "| nodes | pods that run | wait | read, s | proposed, s | moves | let in | unusable GPUs | nodes for a gang of 64, s |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        println!(
            "| {} | {} | {} | {:.3} | {:.3} | {} | {} | {:.0} of {:.0} idle, {:.0} after | {:.3} ({nodes}) |",
            self.nodes,
            seen.tenants.len(),
            seen.newcomers.len(),
            read.as_secs_f64(),
            proposed.as_secs_f64(),
            proposal.moves.len(),
            proposal.outcomes.iter().filter(is_in).count(),
            proposal.before.fragmented,
            proposal.before.idle,
            proposal.after.fragmented,
            preferred.as_secs_f64(),
        );
        Ok(())
    }

    fn objects(&self) -> Vec<Value> {
        let mut rng = fastrand::Rng::with_seed(42);
        let mut objects: Vec<Value> = Vec::new();
        let mut count = 0_u32;
        for at in 0..self.nodes {
            let name = format!("node-{at:05}");
            objects.push(json!({
                "kind": "Node",
                "metadata": {"name": name, "labels": {
                    "kubernetes.io/hostname": name, "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
                }},
                "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
                "status": {
                    "allocatable": {
                        "cpu": (GPUS * CORES).to_string(), "memory": "1Ti", "pods": "110",
                        "nvidia.com/gpu": GPUS.to_string(),
                    },
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }));
            let mut left = GPUS;
            while left > 0 {
                let gpus = [1, 1, 2, 4, 8][rng.usize(..5)].min(left);
                left -= gpus;
                // A part has left again.
                if rng.f64() < 0.6 {
                    count += 1;
                    objects.push(pod(count, gpus, Some(&name)));
                }
            }
        }
        for _ in 0..self.waiting {
            count += 1;
            objects.push(pod(count, GPUS, None));
        }
        objects
    }
}

fn pod(number: u32, gpus: u32, node: Option<&str>) -> Value {
    let resources = json!({"requests": {
        "cpu": (gpus * CORES / 2).to_string(), "memory": "32Gi", "nvidia.com/gpu": gpus.to_string(),
    }});
    json!({
        "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number}"), "namespace": "ml",
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("set-{}", number % 200), "controller": true}],
        },
        "spec": {
            "nodeName": node, "containers": [{"resources": resources}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        },
        "status": {"phase": if node.is_some() { "Running" } else { "Pending" }},
    })
}
