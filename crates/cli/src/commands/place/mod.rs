//! Where a command acts: on this machine or on a cluster. Both show the same resources.

mod choose;
mod here;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use miette::{Report, miette};
use serde_json::Value;
use trainyard_operator::console::{
    Console, ConsoleError, Happened, Kept, Key, Kind, Replica, Selection, Watch, key,
};

use super::output::ServiceName;
use super::plugin::is_plugin;
use super::supervisor::State;
use super::which_cluster::WhichCluster;
use crate::failure::failure;
use choose::{Choice, Known, Unclear, choose};
pub(crate) use here::Here;

/// Where to act; without any of these on the supervisor that runs here, else on the cluster of the
/// current context
#[derive(Args, Clone)]
#[command(next_help_heading = "Where")]
pub(crate) struct PlaceArgs {
    /// Namespace in a cluster [default: the context's]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: WhichCluster,
    /// State folder of a supervisor on this machine [env: TRAINYARD_STATE_DIR] [default: .trainyard]
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["namespace", "context", "kubeconfig"])]
    state_dir: Option<PathBuf>,
}

/// All namespaces, where a command can show several
#[derive(Args, Clone, Copy)]
#[command(next_help_heading = "Where")]
pub(crate) struct AllNamespaces {
    /// All namespaces of a cluster
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "state_dir"])]
    all_namespaces: bool,
}

/// Whether a command changes something, and whom it talks to.
#[derive(Clone, Copy)]
pub(crate) struct Intent {
    pub(crate) changes: bool,
    /// A program reads the answer: nobody is told where it comes from.
    pub(crate) for_machines: bool,
    pub(crate) all_namespaces: Option<AllNamespaces>,
}

impl Intent {
    pub(crate) const CHANGE: Self =
        Self { changes: true, for_machines: false, all_namespaces: None };
    pub(crate) const LOOK: Self = Self { changes: false, ..Self::CHANGE };
}

/// This machine or a cluster.
pub(crate) enum Place {
    Here(Here),
    Cluster(Console),
}

/// Why a place did not answer.
pub(crate) enum PlaceError {
    Here(Report),
    Cluster(ConsoleError),
}

impl PlaceArgs {
    /// Decides, and says where it acts if nobody has said so.
    pub(crate) async fn open(&self, intent: Intent) -> miette::Result<Place> {
        let variable = std::env::var_os("TRAINYARD_STATE_DIR").filter(|value| !value.is_empty());
        let all = intent.all_namespaces.is_some_and(|all| all.all_namespaces);
        let folder = self.state_dir.clone().or_else(|| variable.clone().map(PathBuf::from));
        let state = State::of(folder.unwrap_or_else(|| PathBuf::from(".trainyard")));
        let cluster = self.cluster.choice();
        let folder = state.open()?;
        let named = self.namespace.is_some() || self.cluster.is_named();
        let known = Known {
            names_cluster: named || all || is_plugin(),
            names_folder: self.state_dir.is_some(),
            has_folder_in_environment: variable.is_some(),
            supervisor_runs: folder.is_locked(),
            supervisor_was_here: folder.database().exists(),
            has_cluster: cluster.name().is_some(),
            changes: intent.changes,
        };
        let shown = state.folder().display().to_string();
        let said = match choose(&known) {
            Ok(Choice::Here { said }) => {
                if !said && !intent.for_machines {
                    let gone = ", where no supervisor runs";
                    let gone = if known.supervisor_runs { "" } else { gone };
                    eprintln!("on this machine, state folder `{shown}`{gone}");
                }
                return Ok(Place::Here(Here::new(state)));
            }
            Ok(Choice::Cluster { said }) => said,
            Err(Unclear::Nothing) => {
                return Err(miette!(
                    help = "`trainyard up TARGET` starts services on this machine; `--state-dir` names the folder of a supervisor elsewhere; `--kubeconfig` or `--context` names a cluster",
                    "no supervisor runs with the state folder `{shown}`, and no kubeconfig has a current context"
                ));
            }
            Err(Unclear::Either) => {
                return Err(miette!(
                    help = format!(
                        "say which: `--state-dir {shown}`, or `-n NAMESPACE` or `--context NAME`"
                    ),
                    "a supervisor has run here and does not run now, and there is a cluster too: it is not clear what to change"
                ));
            }
        };
        let client = self.cluster.client().await.map_err(failure)?.client;
        let namespace =
            self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        if !said && !intent.for_machines {
            let name = cluster.name().unwrap_or_default();
            eprintln!("on the cluster of {name}, namespace `{namespace}`");
        }
        Ok(Place::Cluster(Console::new(client, (!all).then_some(namespace))))
    }
}

impl Place {
    /// The services, by namespace and name; each of those named is there, or it is an error.
    pub(crate) async fn services(&self, selection: &Selection) -> Result<Vec<Value>, PlaceError> {
        match self {
            Self::Here(here) => Ok(here.services(selection).await?),
            Self::Cluster(console) => Ok(console.services(selection).await?),
        }
    }

    /// The training jobs that are meant and are there.
    pub(crate) async fn jobs(&self, selection: &Selection) -> Result<Vec<Value>, PlaceError> {
        match self {
            Self::Here(here) => Ok(here.jobs(selection).await?),
            Self::Cluster(console) => {
                let all = Selection { names: Vec::new(), labels: selection.labels.clone() };
                let jobs = match console.of(Kind::TrainingJob).services(&all).await {
                    // Definitions that are older than jobs; or rights, which are enough for services.
                    Err(ConsoleError::NotInstalled | ConsoleError::Forbidden { .. }) => Vec::new(),
                    jobs => jobs?,
                };
                let names = &selection.names;
                let is_meant = |job: &Value| names.is_empty() || names.contains(&key(job).1);
                Ok(jobs.into_iter().filter(is_meant).collect())
            }
        }
    }

    /// The names of services, and those of jobs. A name of neither is taken for a service's.
    pub(crate) async fn by_kind(
        &self,
        names: &[ServiceName],
    ) -> miette::Result<(Vec<String>, Vec<String>)> {
        let unsaid = names.iter().filter(|name| name.1.is_none());
        let unsaid: Vec<String> = unsaid.map(|name| name.0.clone()).collect();
        let found = match unsaid.is_empty() {
            true => Vec::new(),
            false => self.jobs(&Selection { names: unsaid, labels: None }).await?,
        };
        let (mut services, mut jobs) = (Vec::new(), Vec::new());
        for ServiceName(name, kind) in names {
            let is_job = found.iter().any(|job| key(job).1 == *name);
            match kind {
                Some(Kind::TrainingJob) => jobs.push(name.clone()),
                None if is_job => {
                    if let Self::Cluster(console) = self
                        && console.service(name).await.is_ok()
                    {
                        return Err(miette!(
                            help = format!("write `ms/{name}` or `tj/{name}`"),
                            "there is a service and a training job called `{name}`"
                        ));
                    }
                    jobs.push(name.clone());
                }
                Some(Kind::ModelService) | None => services.push(name.clone()),
            }
        }
        Ok((services, jobs))
    }

    /// The services and the jobs of these names; each is there, or it is an error.
    pub(crate) async fn find(
        &self,
        names: &[ServiceName],
    ) -> miette::Result<(Vec<Value>, Vec<Value>)> {
        let (services, jobs) = self.by_kind(names).await?;
        let mut found = (Vec::new(), Vec::new());
        for name in services {
            found.0.push(self.one(Kind::ModelService, &name).await?);
        }
        for name in jobs {
            found.1.push(self.one(Kind::TrainingJob, &name).await?);
        }
        Ok(found)
    }

    /// One service or job, which is there, or it is an error.
    pub(crate) async fn one(&self, kind: Kind, name: &str) -> Result<Value, PlaceError> {
        let selection = Selection { names: vec![name.to_owned()], labels: None };
        if let Self::Cluster(console) = self {
            return Ok(console.of(kind).service(name).await?);
        }
        let found = match kind {
            Kind::ModelService => self.services(&selection).await?,
            Kind::TrainingJob => self.jobs(&selection).await?,
        };
        let missing = || {
            let resource = kind.full_name();
            miette!("NotFound: {resource} \"{name}\" not found on this machine")
        };
        Ok(found.into_iter().next().ok_or_else(missing)?)
    }

    pub(crate) async fn watch(
        &self,
        kind: Kind,
        selection: &Selection,
    ) -> Result<Watching, PlaceError> {
        match self {
            Self::Here(here) => Ok(Watching::Here(Box::new(here.watch(kind, selection).await?))),
            Self::Cluster(console) => {
                Ok(Watching::Cluster(Box::new(console.of(kind).watch(selection))))
            }
        }
    }

    /// Replicas of a service, or workers of a job.
    pub(crate) async fn replicas(
        &self,
        kind: Kind,
        name: Option<&str>,
    ) -> Result<Vec<Replica>, PlaceError> {
        match (self, kind) {
            (Self::Here(here), Kind::ModelService) => Ok(here.replicas(name).await?),
            (Self::Here(here), Kind::TrainingJob) => Ok(here.workers(name).await?),
            (Self::Cluster(console), kind) => Ok(console.of(kind).replicas(name).await?),
        }
    }

    /// The revisions that can be gone back to, the newest first.
    pub(crate) async fn revisions(&self, service: &str) -> Result<Vec<Kept>, PlaceError> {
        match self {
            Self::Here(here) => Ok(here.revisions(service)?),
            Self::Cluster(console) => Ok(console.revisions(service).await?),
        }
    }

    /// What happened, the newest last.
    pub(crate) async fn events(
        &self,
        kind: Kind,
        name: Option<&str>,
    ) -> Result<Vec<Happened>, PlaceError> {
        match self {
            Self::Here(here) => Ok(here.events(name, None)?),
            Self::Cluster(console) => Ok(console.of(kind).events(name).await?),
        }
    }

    /// Whether services of several namespaces may be shown.
    pub(crate) fn has_namespaces(&self) -> bool {
        matches!(self, Self::Cluster(console) if console.namespace().is_none())
    }

    /// That a flag means nothing here.
    pub(crate) fn refuse(&self, flag: &str, why: &str) -> miette::Result<()> {
        match self {
            Self::Here(_) => Err(miette!("{flag} is for clusters: on one machine {why}")),
            Self::Cluster(_) => Ok(()),
        }
    }
}

/// Services, again at each change.
pub(crate) enum Watching {
    Here(Box<here::Watch>),
    Cluster(Box<Watch>),
}

impl Watching {
    /// The next state: first as it is, then after each change.
    pub(crate) async fn next(&mut self) -> Result<&BTreeMap<Key, Value>, PlaceError> {
        match self {
            Self::Here(watch) => Ok(watch.next().await?),
            Self::Cluster(watch) => Ok(watch.next().await?),
        }
    }
}

impl PlaceError {
    /// That there is no service of that name.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Here(report) => report.to_string().starts_with("NotFound: "),
            Self::Cluster(error) => matches!(error, ConsoleError::NotFound { .. }),
        }
    }

    /// In short, if a right is missing.
    pub(crate) fn missing_right(&self) -> Option<String> {
        match self {
            Self::Cluster(ConsoleError::Forbidden { right: Some(right), .. }) => {
                Some(right.words())
            }
            Self::Here(_) | Self::Cluster(_) => None,
        }
    }
}

impl From<Report> for PlaceError {
    fn from(report: Report) -> Self {
        Self::Here(report)
    }
}

impl From<ConsoleError> for PlaceError {
    fn from(error: ConsoleError) -> Self {
        Self::Cluster(error)
    }
}

/// As a report with what to do about it.
impl From<PlaceError> for Report {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Here(report) => report,
            PlaceError::Cluster(error) => {
                let help = error.help();
                let told = failure(error).to_string();
                match help {
                    Some(help) => miette!(help = help, "{told}"),
                    None => miette!("{told}"),
                }
            }
        }
    }
}
