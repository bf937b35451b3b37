//! `trainyard checkpoints`.

mod whose;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use trainyard_checkpoint::{
    Catalogue, CheckpointError, PruneOptions, Pruned, Skipped, Step, StepId, Store,
};

use super::place::{Intent, PlaceArgs};
use super::supervisor::block_on;
use super::time::ago;
use crate::failure::failure;
use crate::print::print_line;
use crate::size::size;
use crate::table::table;
use whose::Whose;

/// Look at, check, fetch and remove the checkpoints of a job, or of a store
///
/// A job is called by its name, or `tj/NAME`; what opens its store comes from its manifest. A store is
/// what `checkpoint.uri` says: a folder, s3, gs or az, with the store's usual credentials. The store of
/// a job that is on a volume of the cluster is looked at by a pod. Exit codes: 0 fine; 1 something is damaged or was passed over; 3 there is no such
/// checkpoint; 2 everything else.
#[derive(Args)]
pub(crate) struct Checkpoints {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List checkpoints, the newest first
    Ls(Ls),
    /// Read every byte of checkpoints and compare it with what was saved
    Verify(Verify),
    /// Fetch a checkpoint into a folder; without a name the newest that is good
    Pull(Pull),
    /// Keep the newest whole checkpoints and remove the others
    Prune(Prune),
}

#[derive(Args)]
struct Common {
    /// The job, or where the checkpoints are
    #[arg(value_name = "JOB|STORE")]
    store: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Args)]
struct Ls {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Verify {
    #[command(flatten)]
    common: Common,
    /// Which ones, by name or step [default: all complete ones]
    #[arg(value_name = "CHECKPOINT")]
    names: Vec<String>,
}

#[derive(Args)]
struct Pull {
    #[command(flatten)]
    common: Common,
    /// Which one, by name or step [default: the newest that is good]
    #[arg(value_name = "CHECKPOINT")]
    name: Option<String>,
    /// Folder to put it into, under its own name
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    to: PathBuf,
    /// The worker whose files count, where every worker has files of the same names
    #[arg(long, value_name = "INDEX")]
    worker: Option<u32>,
}

#[derive(Args)]
struct Prune {
    #[command(flatten)]
    common: Common,
    /// Whole checkpoints to keep
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Read all checkpoints first, so that damaged ones do not count as kept
    #[arg(long)]
    verify: bool,
    /// Remove manifests that cannot be read too; while there are any, no chunk is removed
    #[arg(long)]
    remove_broken: bool,
}

/// There is no such checkpoint.
const NOTHING: u8 = 3;

impl Checkpoints {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let answered = block_on(async {
            match self.what {
                What::Ls(command) => command.answer().await,
                What::Verify(command) => command.answer().await,
                What::Pull(command) => command.answer().await,
                What::Prune(command) => command.answer().await,
            }
        })?;
        answered.or_else(|stop| match stop {
            Stop::Report(report) => Err(report),
            Stop::Failed(error @ CheckpointError::NotFound { .. }) => {
                eprintln!("error: {error}");
                Ok(ExitCode::from(NOTHING))
            }
            Stop::Failed(
                error @ (CheckpointError::Corrupt { .. } | CheckpointError::NoneGood { .. }),
            ) => {
                eprintln!("error: {error}");
                Ok(ExitCode::FAILURE)
            }
            Stop::Failed(error) => Err(failure(error)),
        })
    }
}

/// Why a command ends early.
enum Stop {
    Failed(CheckpointError),
    Report(miette::Report),
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Self {
        Self::Failed(error)
    }
}

impl From<miette::Report> for Stop {
    fn from(report: miette::Report) -> Self {
        Self::Report(report)
    }
}

impl Common {
    /// The store; or how the same command ended that a pod has run, where only pods reach it.
    async fn open(&self, intent: Intent, words: &[&str]) -> Result<Result<Store, ExitCode>, Stop> {
        let intent = Intent { for_machines: self.output == Output::Json, ..intent };
        let whose = Whose::find(&self.store, &self.place, intent).await?;
        whose.or_in_a_pod(words, self.output).await
    }

    fn print(&self, value: &Value, text: impl FnOnce() -> String) -> miette::Result<()> {
        match self.output {
            Output::Json => print_line(&format!("{value:#}")),
            Output::Table => match text() {
                text if text.is_empty() => Ok(()),
                text => print_line(&text),
            },
        }
    }
}

fn missing(store: &Store, name: &str, catalogue: &Catalogue) -> CheckpointError {
    let known = catalogue.steps.iter().map(|step| step.id.name.clone()).collect();
    CheckpointError::NotFound { uri: store.uri().to_owned(), name: name.to_owned(), known }
}

impl Ls {
    async fn answer(&self) -> Result<ExitCode, Stop> {
        let store = match self.common.open(Intent::LOOK, &["ls"]).await? {
            Ok(store) => store,
            Err(ended) => return Ok(ended),
        };
        let catalogue = store.catalogue().await?;
        tell_broken(&catalogue);
        let steps: Vec<Value> = catalogue.steps.iter().map(step_json).collect();
        let broken: Vec<Value> =
            catalogue.broken.iter().map(|it| json!({"key": it.key, "reason": it.reason})).collect();
        let all = json!({"store": store.uri(), "checkpoints": steps, "broken": broken});
        self.common.print(&all, || {
            if catalogue.steps.is_empty() {
                return String::new();
            }
            let rows = catalogue.steps.iter().map(|step| {
                let (there, of) = step.parts();
                vec![
                    step.id.name.clone(),
                    step.step().map(|step| step.to_string()).unwrap_or_default(),
                    size(step.bytes()),
                    step.files().to_string(),
                    format!("{there}/{of}"),
                    step.layout().as_str().to_owned(),
                    ago(i64::try_from(step.sequence()).unwrap_or(i64::MAX)),
                ]
            });
            table(&["NAME", "STEP", "SIZE", "FILES", "PARTS", "LAYOUT", "AGE"], rows)
        })?;
        if catalogue.steps.is_empty() && catalogue.broken.is_empty() {
            eprintln!("there are no checkpoints in `{}`", store.uri());
        }
        Ok(if catalogue.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn tell_broken(catalogue: &Catalogue) {
    for broken in &catalogue.broken {
        eprintln!("warning: `{}` cannot be used: {}", broken.key, broken.reason);
    }
}

fn step_json(step: &Step) -> Value {
    let (there, of) = step.parts();
    json!({
        "name": step.id.name, "label": step.id.label, "step": step.step(),
        "bytes": step.bytes(), "files": step.files(), "layout": step.layout().as_str(),
        "parts": there, "workers": of, "complete": step.is_complete(),
        "sequence": step.sequence(),
    })
}

impl Verify {
    async fn answer(&self) -> Result<ExitCode, Stop> {
        let words: Vec<&str> =
            ["verify"].into_iter().chain(self.names.iter().map(String::as_str)).collect();
        let store = match self.common.open(Intent::LOOK, &words).await? {
            Ok(store) => store,
            Err(ended) => return Ok(ended),
        };
        let catalogue = store.catalogue().await?;
        tell_broken(&catalogue);
        let steps: Vec<&Step> = match self.names.as_slice() {
            [] => catalogue.complete().collect(),
            names => names
                .iter()
                .map(|name| catalogue.find(name).ok_or_else(|| missing(&store, name, &catalogue)))
                .collect::<Result<_, _>>()?,
        };
        let (mut rows, mut answers, mut all_good) = (Vec::new(), Vec::new(), true);
        for step in steps {
            let faults = store.verify(step).await?;
            all_good &= faults.is_empty();
            let list: Vec<Value> =
                faults.iter().map(|it| json!({"file": it.file, "reason": it.reason})).collect();
            let mut answer = step_json(step);
            answer["good"] = faults.is_empty().into();
            answer["faults"] = list.into();
            answers.push(answer);
            let state = if faults.is_empty() { "good" } else { "damaged" };
            rows.push(vec![
                step.id.name.clone(),
                state.to_owned(),
                size(step.bytes()),
                String::new(),
            ]);
            for fault in faults {
                rows.push(vec![String::new(), String::new(), fault.file, fault.reason]);
            }
        }
        if rows.is_empty() {
            eprintln!("there are no complete checkpoints in `{}`", store.uri());
        }
        let all = json!({"store": store.uri(), "checkpoints": answers});
        self.common.print(&all, || match rows.is_empty() {
            true => String::new(),
            false => table(&["NAME", "STATE", "SIZE", ""], rows),
        })?;
        let is_fine = all_good && catalogue.broken.is_empty();
        Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Pull {
    async fn answer(&self) -> Result<ExitCode, Stop> {
        let store = match self.common.open(Intent::LOOK, &[]).await? {
            Ok(store) => store,
            Err(ended) => return Ok(ended),
        };
        let restored = match &self.name {
            None => store
                .restore_newest(&self.to, self.worker)
                .await?
                .ok_or_else(|| missing(&store, "newest", &Catalogue::default()))?,
            Some(name) => {
                let catalogue = store.catalogue().await?;
                let step = catalogue.find(name).ok_or_else(|| missing(&store, name, &catalogue))?;
                store.restore(step, &self.to, self.worker).await?
            }
        };
        for skipped in &restored.skipped {
            eprintln!("warning: `{}` was passed over: {}", skipped.name, skipped.reason);
        }
        let skipped: Vec<Value> = restored.skipped.iter().map(skipped_json).collect();
        let answer = json!({
            "name": restored.id.name, "step": restored.step, "path": restored.path,
            "bytes": restored.bytes, "skipped": skipped,
        });
        self.common.print(&answer, || restored.path.display().to_string())?;
        Ok(if restored.skipped.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn skipped_json(skipped: &Skipped) -> Value {
    json!({"name": skipped.name, "reason": skipped.reason})
}

impl Prune {
    async fn answer(&self) -> Result<ExitCode, Stop> {
        let keep = self.keep.to_string();
        let flags = [
            ("--dry-run", self.dry_run),
            ("--verify", self.verify),
            ("--remove-broken", self.remove_broken),
        ];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag);
        let words: Vec<&str> = ["prune", "--keep", &keep].into_iter().chain(flags).collect();
        let store = match self.common.open(Intent::CHANGE, &words).await? {
            Ok(store) => store,
            Err(ended) => return Ok(ended),
        };
        let mut options = PruneOptions {
            dry_run: self.dry_run,
            remove_broken: self.remove_broken,
            ..PruneOptions::keep(self.keep as usize)
        };
        if self.verify {
            for step in store.catalogue().await?.complete() {
                if !store.verify(step).await?.is_empty() {
                    eprintln!("warning: `{}` is damaged and does not count", step.id.name);
                    options.damaged.insert(step.id.clone());
                }
            }
        }
        let pruned = store.prune(&options).await?;
        if pruned.is_busy {
            return Err(miette::miette!(
                "another process is publishing or removing checkpoints in `{}`; try again in a \
                 moment (a killed one is waited for 10 minutes)",
                store.uri()
            )
            .into());
        }
        for broken in &pruned.broken {
            eprintln!("warning: no chunk is removed, because a manifest cannot be read: {broken}");
        }
        let names: Vec<&StepId> = pruned.removed.iter().collect();
        let answer = json!({
            "removed": names.iter().map(|it| json!({"name": it.name, "label": it.label})).collect::<Vec<_>>(),
            "chunks": pruned.removed_chunks, "bytes": pruned.freed_bytes, "dryRun": self.dry_run,
        });
        self.common.print(&answer, || self.text(&pruned))?;
        Ok(if pruned.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn text(&self, pruned: &Pruned) -> String {
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let mut lines: Vec<String> =
            pruned.removed.iter().map(|it| format!("{verb} {}", it.name)).collect();
        let (chunks, freed) = (pruned.removed_chunks, size(pruned.freed_bytes));
        let verb = if self.dry_run { "would free" } else { "freed" };
        lines.push(format!("{verb} {freed} in {chunks} chunks"));
        lines.join("\n")
    }
}
