//! `cargo xtask bench sim`: how many pods a second the simulator schedules, for each policy, on one
//! core, in the FGD paper's experiment.
//!
//! The peer, the paper's own simulator, is not run: its authors give ten minutes a run on two cores.
//! The crate is optimised in development builds too (`Cargo.toml`), with overflow checks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use trainyard_packing::{Inflation, Models, Node, Policy, Request, read_nodes, read_pods};

use crate::paths;

#[derive(Args)]
pub(crate) struct Sim {
    /// Folder with `openb_node_list_gpu_node.csv` and `openb_pod_list_*.csv` of Alibaba's
    /// cluster-trace-gpu-v2023 [default: shared/traces/openb beside the repository]
    #[arg(long)]
    traces: Option<PathBuf>,
    /// Which pods
    #[arg(long, default_value = "default")]
    workload: String,
    /// Runs of each policy; the fastest is shown
    #[arg(long, default_value_t = 3)]
    runs: u64,
}

impl Sim {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let beside = ["../shared/traces/openb", "../../shared/traces/openb"];
        let beside = beside.map(|folder| paths::root().join(folder));
        let folder = self.traces.or_else(|| beside.into_iter().find(|path| path.is_dir()));
        let folder = folder.context("no traces beside the repository; say where with --traces")?;
        let mut models = Models::default();
        let file = |name: &str| -> anyhow::Result<Vec<u8>> {
            std::fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"))
        };
        let name = "openb_node_list_gpu_node.csv";
        let nodes = read_nodes(name, &file(name)?, &mut models)?;
        let nodes: Vec<Node> = nodes.into_iter().map(|it| it.node).collect();
        let name = format!("openb_pod_list_{}.csv", self.workload);
        let pods = read_pods(&name, &file(&name)?, &mut models)?;
        let workload: Vec<Request> = pods.iter().map(|pod| pod.request).collect();
        let inflation = Inflation {
            nodes: &nodes,
            workload: &workload,
            more: &workload,
            models: models.count(),
            load: 1.3,
        };
        println!("| policy | pods | seconds | pods/s | allocated % |\n|---|---|---|---|---|");
        for policy in Policy::ALL {
            let mut best: Option<(Duration, u64, f64)> = None;
            for _ in 0..self.runs {
                let start = Instant::now();
                let run = inflation.run(policy, 42);
                let took = start.elapsed();
                if best.is_none_or(|(fastest, ..)| took < fastest) {
                    best = Some((took, run.pods, run.last().allocated));
                }
            }
            let Some((took, pods, allocated)) = best else { bail!("--runs 0 measures nothing") };
            let seconds = took.as_secs_f64();
            println!(
                "| {policy} | {pods} | {seconds:.3} | {:.0} | {:.2} |",
                pods as f64 / seconds,
                100.0 * allocated
            );
        }
        Ok(())
    }
}
