//! Benchmarks that run the peer beside us, in one run, and print the ratio.

mod checkpoint;
mod defrag;
mod gateway;
mod lint;
mod load;
mod queue;
mod server;
mod serving;
mod sim;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Checkpoints against rclone and the raw disk, and what training loses meanwhile
    Checkpoint(checkpoint::Checkpoint),
    /// Moves that make room in a large cluster: how long it takes to propose them
    Defrag(defrag::Defrag),
    /// The gateway against nginx as reverse proxy
    Gateway(gateway::Gateway),
    /// The linter against kube-score
    Lint(lint::Lint),
    /// The job queue: one decision cycle over 10,000 waiting jobs
    Queue(queue::Queue),
    /// The model server against MLServer, LitServe and raw ONNX Runtime
    Serving(serving::Serving),
    /// The cluster simulator: pods scheduled per second, for each policy
    Sim(sim::Sim),
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Checkpoint(bench) => bench.run(),
            Self::Defrag(bench) => bench.run(),
            Self::Gateway(bench) => bench.run(),
            Self::Lint(bench) => bench.run(),
            Self::Queue(bench) => bench.run(),
            Self::Serving(bench) => bench.run(),
            Self::Sim(bench) => bench.run(),
        }
    }
}
