//! How good judgements are, measured against what people said.

mod labels;
mod lint;
mod mutation;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Eval {
    /// Precision of every lint rule on real manifests, and how many planted mistakes it finds
    Lint(lint::Lint),
}

impl Eval {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Lint(eval) => eval.run(),
        }
    }
}
