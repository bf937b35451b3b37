//! A cluster as a file, or as it is: what the doctor and the planner look at.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use miette::{IntoDiagnostic, miette};
use serde_json::Value;
use trainyard_diagnose::Snapshot;
use trainyard_operator::places;

use super::supervisor::block_on;
use super::which_cluster::WhichCluster;
use crate::failure::failure;

/// Where pods are: in a cluster, or in a file that says so of one
#[derive(Args)]
pub(super) struct Places {
    /// Look at a snapshot that `trainyard doctor -A --collect` wrote, or at objects as kubectl prints
    /// them; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["context", "kubeconfig"])]
    from: Option<PathBuf>,
    #[command(flatten)]
    cluster: WhichCluster,
}

impl Places {
    /// Whether a cluster or file is named.
    pub(super) fn is_named(&self) -> bool {
        self.from.is_some() || self.cluster.is_named()
    }

    /// Reads it, and says on standard error what could not be read although it matters less.
    pub(super) fn read(&self) -> miette::Result<Snapshot> {
        let snapshot = match &self.from {
            Some(path) => dump(path)?,
            None => block_on(self.live())??,
        };
        // A dump of objects says of other things that nobody asked for them.
        for unread in snapshot.unread.iter().filter(|it| !it.not_asked) {
            eprintln!("note: not read, {}: {}", unread.what, unread.reason);
        }
        let has_budgets = snapshot.objects.iter().any(|object| {
            object.get("kind").and_then(Value::as_str) == Some("PodDisruptionBudget")
        });
        if self.from.is_some() && !has_budgets {
            eprintln!(
                "note: there is no PodDisruptionBudget in the file; where the cluster has some, dump them too"
            );
        }
        Ok(snapshot)
    }

    async fn live(&self) -> miette::Result<Snapshot> {
        let client = self.cluster.client().await.map_err(failure)?.client;
        places(&client).await.map_err(unreadable)
    }
}

/// The report of a cluster that does not answer.
pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> miette::Report {
    let report = failure(error);
    miette!(
        help = "`kubectl cluster-info` tells whether the cluster is there; `--context NAME` chooses another one; `--from FILE` looks at a snapshot",
        "the cluster cannot be read: {report}"
    )
}

/// Reads a snapshot, or objects.
pub(super) fn dump(path: &Path) -> miette::Result<Snapshot> {
    let text = text_of(path)?;
    // JSON is by far the quicker to read, and what `--collect` writes.
    let documents: Vec<Value> = match serde_json::from_str::<Value>(&text) {
        Ok(value) => vec![value],
        Err(_) => serde_saphyr::from_multiple(&text)
            .map_err(|error| miette!("{} is neither JSON nor YAML: {error}", path.display()))?,
    };
    Snapshot::read(documents).map_err(|error| {
        let report = failure(error);
        miette!(
            help = "`trainyard doctor --collect FILE` writes a snapshot; `kubectl get pods,nodes,events -A -o yaml` prints objects",
            "{}: {report}",
            path.display()
        )
    })
}

/// The text of a file, or of standard input.
pub(super) fn text_of(path: &Path) -> miette::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).into_diagnostic()?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
        .map_err(|error| miette!("cannot read {}: {error}", path.display()))
}
