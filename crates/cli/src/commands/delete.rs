//! `trainyard delete`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::miette;
use serde_json::Value;
use trainyard_api::scalar::Period;
use trainyard_local::socket::Request;
use trainyard_operator::console::{Awaited, Cascade, Console, Deletion, Kind, Selection, key};

use super::output::{ServiceName, singular};
use super::place::{Here, Intent, Place, PlaceArgs};
use super::supervisor::block_on;
use super::wait::until;
use crate::print::print_line;

/// Delete services, once requests in flight are answered, and training jobs
///
/// As with kubectl, nobody is asked. On this machine a service stays down until its file changes.
#[derive(Args)]
pub(crate) struct Delete {
    /// The services and jobs
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "selector"], conflicts_with_all = ["all", "selector"])]
    names: Vec<ServiceName>,
    /// Every service and job of the namespace, or of this machine
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// Services and jobs with these labels, such as `team=vision`
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// One that is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// What becomes of the objects that a service is made of in a cluster
    #[arg(long, value_enum)]
    cascade: Option<CascadeName>,
    /// Only say what would be deleted
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<DryRun>,
    /// Come back once it is gone
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait for that
    #[arg(long, default_value = "5m", value_name = "TIME")]
    timeout: Period,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum CascadeName {
    /// They go after it
    Background,
    /// They go before it
    Foreground,
    /// They stay, and go on serving
    Orphan,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DryRun {
    None,
    Client,
    /// The API server says whether it would
    Server,
}

impl Delete {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.delete())?
    }

    async fn delete(self) -> miette::Result<ExitCode> {
        let place = self.place.open(Intent::CHANGE).await?;
        if self.cascade.is_some() {
            place.refuse("--cascade", "a service has no objects beside its processes")?;
        }
        let services = self.meant(&place).await?;
        if services.is_empty() {
            eprintln!("no services and no jobs found");
            return Ok(ExitCode::SUCCESS);
        }
        let names: Vec<String> = services.iter().map(|service| key(service).1).collect();
        match &place {
            Place::Here(here) => self.here(here, &services, &names).await?,
            Place::Cluster(console) => {
                if !self.in_cluster(console, &place, &services).await? {
                    return Ok(ExitCode::from(1));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The services and jobs that are meant and are there.
    async fn meant(&self, place: &Place) -> miette::Result<Vec<Value>> {
        if self.names.is_empty() {
            let all = Selection { names: Vec::new(), labels: self.selector.clone() };
            let mut found = place.services(&all).await?;
            found.extend(place.jobs(&all).await?);
            return Ok(found);
        }
        let (services, jobs) = place.by_kind(&self.names).await?;
        let mut found = Vec::new();
        for (kind, names) in [(Kind::ModelService, services), (Kind::TrainingJob, jobs)] {
            for name in names {
                match place.one(kind, &name).await {
                    Ok(resource) => found.push(resource),
                    Err(error) if self.ignore_not_found && error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(found)
    }

    async fn here(&self, here: &Here, all: &[Value], names: &[String]) -> miette::Result<()> {
        if matches!(self.dry_run, None | Some(DryRun::None)) {
            let request = Request::Down { services: names.to_vec(), hurry: false, forget: true };
            let ended = here.state.do_it(&request);
            if self.wait {
                let ended = tokio::time::timeout(self.timeout.0, ended).await;
                ended.map_err(|_| {
                    miette!("requests are still in flight after {} s", self.timeout.0.as_secs())
                })??;
            } else {
                ended.await?;
            }
        } else {
            // What the last one has left on the list is nobody's to delete.
            here.check_running().await?;
        }
        self.tell(all)
    }

    /// Whether they are gone in time.
    async fn in_cluster(
        &self,
        console: &Console,
        place: &Place,
        all: &[Value],
    ) -> miette::Result<bool> {
        let how = Deletion {
            cascade: match self.cascade {
                None | Some(CascadeName::Background) => Cascade::Background,
                Some(CascadeName::Foreground) => Cascade::Foreground,
                Some(CascadeName::Orphan) => Cascade::Orphan,
            },
            dry_run: self.dry_run == Some(DryRun::Server),
        };
        if self.dry_run != Some(DryRun::Client) {
            for resource in all {
                let console = console.of(kind(resource));
                console.delete(resource, how).await.map_err(super::place::PlaceError::from)?;
            }
        }
        self.tell(all)?;
        let is_done = !matches!(self.dry_run, None | Some(DryRun::None)) || !self.wait;
        if is_done {
            return Ok(true);
        }
        let mut all_gone = true;
        for of in Kind::ALL {
            let names: Vec<String> =
                all.iter().filter(|it| kind(it) == of).map(|it| key(it).1).collect();
            if names.is_empty() {
                continue;
            }
            let selection = Selection { names, labels: None };
            let awaited = &Awaited::Deleted;
            let left = until(place, of, &selection, awaited, self.timeout, |_| Ok(())).await?;
            for name in left.keys() {
                eprintln!("timed out waiting for {}/{name} to be gone", singular(of));
            }
            all_gone &= left.is_empty();
        }
        Ok(all_gone)
    }

    fn tell(&self, all: &[Value]) -> miette::Result<()> {
        let mark = match self.dry_run {
            None | Some(DryRun::None) => "",
            Some(DryRun::Client) => " (dry run)",
            Some(DryRun::Server) => " (server dry run)",
        };
        for resource in all {
            let (kind, name) = (singular(kind(resource)), key(resource).1);
            print_line(&format!("{kind} \"{name}\" deleted{mark}"))?;
        }
        Ok(())
    }
}

fn kind(resource: &Value) -> Kind {
    let is_job = resource["kind"] == Kind::TrainingJob.kind();
    if is_job { Kind::TrainingJob } else { Kind::ModelService }
}
