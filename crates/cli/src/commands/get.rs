//! `trainyard get`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use trainyard_operator::console::{Key, Selection, key};

use super::jobs;
use super::output::{self, Columns, Format, ServiceName, plain};
use super::place::{AllNamespaces, Intent, Place, PlaceArgs};
use super::supervisor::block_on;
use crate::print::print_line;

/// List services, in a cluster or on this machine, and this machine's training jobs
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
        let jobs = place.jobs(&selection).await?;
        let is_job = |name: &String| jobs.iter().any(|job| key(job).1 == *name);
        let others: Vec<String> =
            selection.names.iter().filter(|name| !is_job(name)).cloned().collect();
        let services = match selection.names.is_empty() || !others.is_empty() {
            true => place.services(&Selection { names: others, ..selection }).await?,
            false => Vec::new(),
        };
        if services.is_empty() && jobs.is_empty() && !self.output.is_for_machines() {
            eprintln!("no services found");
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
            let wide = self.output == Format::Wide;
            let text = jobs::list(&jobs, wide, !self.no_headers);
            print_line(&if services.is_empty() { text } else { format!("\n{text}") })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn watch(&self, place: &Place, selection: &Selection) -> miette::Result<ExitCode> {
        let mut watch = place.watch(selection).await?;
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

    fn text(&self, place: &Place, services: &[Value], headers: bool) -> miette::Result<String> {
        let columns = Columns {
            with_namespace: place.has_namespaces(),
            wide: self.output == Format::Wide,
            headers: headers && !self.no_headers,
        };
        match self.output {
            Format::Table | Format::Wide => Ok(output::list(services, columns)),
            format => output::resources(services, self.names.len() == 1, format),
        }
    }
}
