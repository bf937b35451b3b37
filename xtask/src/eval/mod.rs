//! How good judgements are, measured against what people said.

mod labels;
mod lint;
mod mutation;
mod training;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Eval {
    /// Precision of every lint rule on real manifests, and how many planted mistakes it finds
    Lint(lint::Lint),
    /// Whether training jobs end with the right result whatever is killed meanwhile
    Training(training::Training),
}

impl Eval {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Lint(eval) => eval.run(),
            Self::Training(eval) => eval.run(),
        }
    }
}
