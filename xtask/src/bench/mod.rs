//! Benchmarks that run the peer beside us, in one run, and print the ratio.

mod load;
mod server;
mod serving;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The model server against MLServer, LitServe and raw ONNX Runtime
    Serving(serving::Serving),
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Serving(bench) => bench.run(),
        }
    }
}
