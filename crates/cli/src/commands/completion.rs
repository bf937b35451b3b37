//! `trainyard completion`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::print::print;

/// Print a script that completes commands and flags in a shell
///
/// For bash: `source <(trainyard completion bash)`.
#[derive(Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "trainyard", &mut script);
        print(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
