//! `trainyard get`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use miette::miette;
use serde_json::Value;
use trainyard_operator::console::{Key, Kind, Selection};

use super::jobs;
use super::output::{self, Columns, Format, ServiceName, plain};
use super::place::{AllNamespaces, Intent, Place, PlaceArgs};
use super::supervisor::block_on;
use crate::print::print_line;

/// List services and training jobs, in a cluster or on this machine
#[derive(Args)]
pub(crate) struct Get {
    /// These services and jobs; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<ServiceName>,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Go on, and print what changes
    #[arg(short, long)]
    watch: bool,
    /// Services with these labels, such as `team=vision`
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "names")]
    selector: Option<String>,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    all: AllNamespaces,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Get {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.answer())?
    }

    async fn answer(self) -> miette::Result<ExitCode> {
        let intent = Intent {
            for_machines: self.output.is_for_machines(),
            all_namespaces: Some(self.all),
            ..Intent::LOOK
        };
        let place = self.place.open(intent).await?;
        let selection = Selection { names: plain(&self.names), labels: self.selector.clone() };
        if self.watch {
            return self.watch(&place, &selection).await;
        }
        let (services, jobs) = match selection.names.is_empty() {
            true => (place.services(&selection).await?, place.jobs(&selection).await?),
            false => place.find(&self.names).await?,
        };
        if services.is_empty() && jobs.is_empty() && !self.output.is_for_machines() {
            eprintln!("no services and no jobs found");
            return Ok(ExitCode::SUCCESS);
        }
        if self.output.is_for_machines() {
            let all: Vec<Value> = services.into_iter().chain(jobs).collect();
            print_line(&self.text(&place, &all, !self.no_headers)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if !services.is_empty() {
            print_line(&self.text(&place, &services, !self.no_headers)?)?;
        }
        if !jobs.is_empty() {
            let text = jobs::list(&jobs, self.columns(&place, true));
            print_line(&if services.is_empty() { text } else { format!("\n{text}") })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn watch(&self, place: &Place, selection: &Selection) -> miette::Result<ExitCode> {
        let (services, jobs) = place.by_kind(&self.names).await?;
        let (kind, names) = match (services.is_empty(), jobs.is_empty()) {
            (false, false) => {
                return Err(miette!(
                    "services and jobs have different columns; watch the ones or the others"
                ));
            }
            (true, false) => (Kind::TrainingJob, jobs),
            (_, true) => (Kind::ModelService, services),
        };
        let selection = Selection { names, ..selection.clone() };
        let mut watch = place.watch(kind, &selection).await?;
        let mut before: Option<BTreeMap<Key, Value>> = None;
        loop {
            let now = watch.next().await?;
            let changed: Vec<Value> = now
                .iter()
                .filter(|(key, service)| {
                    before.as_ref().and_then(|before| before.get(*key)) != Some(*service)
                })
                .map(|(_, service)| service.clone())
                .collect();
            let is_first = before.is_none();
            let text = match self.output {
                // Ages alone are no change, and headers come once.
                Format::Table | Format::Wide if kind == Kind::TrainingJob => {
                    jobs::list(&changed, self.columns(place, is_first))
                }
                Format::Table | Format::Wide => self.text(place, &changed, is_first)?,
                format => {
                    let each = changed.iter().map(|service| {
                        output::resources(std::slice::from_ref(service), true, format)
                    });
                    let separator = if format == Format::Yaml { "\n---\n" } else { "\n" };
                    each.collect::<miette::Result<Vec<_>>>()?.join(separator)
                }
            };
            if !changed.is_empty() {
                print_line(&text)?;
            }
            before = Some(now.clone());
        }
    }

    fn columns(&self, place: &Place, headers: bool) -> Columns {
        Columns {
            with_namespace: place.has_namespaces(),
            wide: self.output == Format::Wide,
            headers: headers && !self.no_headers,
        }
    }

    fn text(&self, place: &Place, services: &[Value], headers: bool) -> miette::Result<String> {
        match self.output {
            Format::Table | Format::Wide => {
                Ok(output::list(services, self.columns(place, headers)))
            }
            format => output::resources(services, self.names.len() == 1, format),
        }
    }
}
