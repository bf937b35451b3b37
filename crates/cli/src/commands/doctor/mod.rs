//! `trainyard doctor`: what is wrong in a cluster, why, and how to mend it.

mod source;
mod text;
mod watch;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::miette;
use trainyard_diagnose::{Answer, Focus, Level, Snapshot, Target, diagnose, pages, registry};

use super::which_cluster::WhichCluster;
use crate::failure::failure;
use crate::print::{print, print_line};
use crate::table::table;

/// Find what is wrong in a cluster, why, and how to mend it
///
/// Reads only, and Secrets never. Exit code 0: nothing at or above --fail-on. 1: findings. 2: the
/// cluster could not be read, or nothing was found and some checks could not run.
#[derive(Args, Clone)]
pub(crate) struct Doctor {
    /// What to look at: KIND/NAME such as deploy/llm or node/gpu-1, or a NAME; all of the namespace
    /// without one
    #[arg(value_name = "RESOURCE")]
    target: Option<Target>,
    /// Namespace [default: the context's; with --from all]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    cluster: WhichCluster,
    /// Look at a snapshot that --collect wrote, or at objects as kubectl prints them; `-` reads
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["context", "kubeconfig", "watch", "collect"])]
    from: Option<PathBuf>,
    /// Write a snapshot without secrets into this file, and end; `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watch", "target"])]
    collect: Option<PathBuf>,
    /// Take in what `trainyard agent --probe` printed on a node; may be repeated
    #[arg(long = "probe", value_name = "FILE")]
    probes: Vec<PathBuf>,
    /// Look again and again, and tell what changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Tell all about a diagnosis, or list them with `all`
    #[arg(long, value_name = "ID")]
    explain: Option<String>,
    /// The lowest level that makes the exit code 1
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum FailOn {
    Error,
    #[default]
    Warning,
}

impl Doctor {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        if let Some(id) = &self.explain {
            return explain(id);
        }
        if let Some(path) = &self.collect {
            let (snapshot, _) = source::read(&self)?;
            source::write(path, &snapshot)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.watch {
            return watch::watch(&self);
        }
        let (snapshot, focus) = source::read(&self)?;
        let answer = self.look(&snapshot, &focus)?;
        self.report(&answer, &focus)?;
        Ok(self.exit_code(&answer))
    }

    fn look(&self, snapshot: &Snapshot, focus: &Focus) -> miette::Result<Answer> {
        if let Some(target) = &self.target
            && !focus.is_there(snapshot)
        {
            let place = focus.namespace.as_ref().map_or_else(
                || "there".to_owned(),
                |namespace| format!("in the namespace `{namespace}`"),
            );
            return Err(miette!(
                help = "`-A` looks in all namespaces; KIND/NAME says what it is",
                "NotFound: `{}` is not {place}",
                target.name
            ));
        }
        Ok(diagnose(snapshot, focus))
    }

    fn report(&self, answer: &Answer, focus: &Focus) -> miette::Result<()> {
        match self.output {
            Format::Json => print_line(&serde_json::to_string_pretty(answer).map_err(failure)?),
            Format::Text => {
                let colour = std::io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                print(text::render(answer, focus, colour).as_bytes())
            }
        }
    }

    fn exit_code(&self, answer: &Answer) -> ExitCode {
        let least = match self.fail_on {
            FailOn::Error => Level::Error,
            FailOn::Warning => Level::Warning,
        };
        if answer.findings.iter().any(|finding| finding.level >= least) {
            ExitCode::from(1)
        } else if answer.unknown.iter().any(|unknown| !unknown.not_asked) {
            // Nothing was found where not all could be looked at: that is not health.
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn explain(id: &str) -> miette::Result<ExitCode> {
    if id.eq_ignore_ascii_case("all") {
        let rows = registry::all()
            .iter()
            .map(|it| vec![it.id.to_owned(), it.level.name().to_owned(), it.title().to_owned()]);
        print_line(&table(&["ID", "LEVEL", "WHAT"], rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(page) = pages::page(id) else {
        return Err(miette!(
            help = "`trainyard doctor --explain all` lists the diagnoses",
            "there is no diagnosis `{id}`"
        ));
    };
    print(page.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
