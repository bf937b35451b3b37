//! `trainyard events`.

use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use serde_json::json;
use trainyard_operator::console::{Happened, Kind, merge};

use super::output::{Format, ServiceName};
use super::place::{AllNamespaces, Here, Intent, Place, PlaceArgs, PlaceError};
use super::supervisor::block_on;
use super::time::ago;
use crate::failure::failure;
use crate::print::print_line;
use crate::table::table;
use crate::yaml;

/// Show what happened to services and jobs and what they are made of, the newest last
///
/// On this machine also to services that are down.
#[derive(Args)]
pub(crate) struct Events {
    /// Of this service or job only
    #[arg(value_name = "NAME")]
    name: Option<ServiceName>,
    /// Go on as more happens
    #[arg(short, long, alias = "watch", short_alias = 'w')]
    follow: bool,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Print a JSON object for each event, one a line
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Warnings only
    #[arg(long)]
    warnings: bool,
    /// At most so many of the newest
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    all: AllNamespaces,
    #[command(flatten)]
    place: PlaceArgs,
}

/// New events of this machine are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(300);

impl Events {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.answer())?
    }

    async fn answer(self) -> miette::Result<ExitCode> {
        let intent = Intent {
            for_machines: self.json || self.output.is_for_machines(),
            all_namespaces: Some(self.all),
            ..Intent::LOOK
        };
        let place = self.place.open(intent).await?;
        let service = self.name.as_ref().map(|name| name.0.as_str());
        let kinds: Vec<Kind> = match (&place, &self.name) {
            // The history here holds both.
            (Place::Here(_), _) => vec![Kind::ModelService],
            (Place::Cluster(_), None) => Kind::ALL.to_vec(),
            (Place::Cluster(_), Some(name)) => {
                let (_, jobs) = place.by_kind(std::slice::from_ref(name)).await?;
                vec![if jobs.is_empty() { Kind::ModelService } else { Kind::TrainingJob }]
            }
        };
        let mut events: Vec<Happened> = Vec::new();
        for kind in &kinds {
            events.extend(place.events(*kind, service).await?);
        }
        events.retain(|it| self.is_wanted(it));
        let mut events = merge(events);
        if events.is_empty() {
            if let Some(name) = service {
                known(&place, kinds.first().copied(), name).await?;
            }
            if !self.follow && !intent.for_machines {
                eprintln!("no events found");
            }
        }
        events.drain(..events.len().saturating_sub(self.limit));
        let newest = events.iter().map(|event| event.last_ms).max();
        if !events.is_empty() || intent.for_machines {
            self.print(&events, place.has_namespaces())?;
        }
        if !self.follow {
            return Ok(ExitCode::SUCCESS);
        }
        match &place {
            Place::Here(here) => self.follow_here(here, newest).await,
            Place::Cluster(console) => {
                let streams = kinds
                    .iter()
                    .map(|kind| Box::pin(console.of(*kind).new_events(service.map(str::to_owned))));
                let mut more = pin!(futures_util::stream::select_all(streams));
                while let Some(event) = more.next().await {
                    let event = event.map_err(PlaceError::from)?;
                    if self.is_wanted(&event) {
                        self.print(&[event], place.has_namespaces())?;
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    async fn follow_here(&self, here: &Here, mut newest: Option<i64>) -> miette::Result<ExitCode> {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let service = self.name.as_ref().map(|name| name.0.as_str());
            let events = here.events(service, newest)?;
            newest = newest.max(events.iter().map(|event| event.last_ms).max());
            let events: Vec<Happened> =
                events.into_iter().filter(|it| self.is_wanted(it)).collect();
            if !events.is_empty() {
                self.print(&events, false)?;
            }
        }
    }

    fn is_wanted(&self, event: &Happened) -> bool {
        event.is_warning || !self.warnings
    }

    fn print(&self, events: &[Happened], with_namespace: bool) -> miette::Result<()> {
        let values = || events.iter().map(value).collect::<Vec<_>>();
        let text = match self.output {
            _ if self.json => {
                let lines = events.iter().map(|event| value(event).to_string());
                lines.collect::<Vec<_>>().join("\n")
            }
            Format::Table | Format::Wide => {
                rows(&merge(events.to_vec()), with_namespace || self.output == Format::Wide)
            }
            Format::Json => serde_json::to_string_pretty(&values()).map_err(failure)?,
            Format::Yaml => yaml::document(json!(values()))?.trim_end().to_owned(),
            Format::Name => {
                let names = events.iter().map(|event| event.object.clone());
                names.collect::<Vec<_>>().join("\n")
            }
        };
        if text.is_empty() { Ok(()) } else { print_line(&text) }
    }
}

/// That there is such a service, when nothing is known of it.
async fn known(place: &Place, kind: Option<Kind>, name: &str) -> Result<(), PlaceError> {
    match place {
        Place::Here(here) => Ok(here.find(name)?),
        Place::Cluster(console) => {
            let kind = kind.unwrap_or(Kind::ModelService);
            Ok(console.of(kind).service(name).await.map(drop)?)
        }
    }
}

fn value(event: &Happened) -> serde_json::Value {
    json!({
        "namespace": event.namespace, "service": event.service, "object": event.object,
        "severity": if event.is_warning { "warning" } else { "normal" },
        "reason": event.reason, "message": event.message,
        "firstMs": event.first_ms, "lastMs": event.last_ms, "count": event.count,
    })
}

/// One line for each event; of a terminal's width where there is one.
pub(super) fn rows(events: &[Happened], with_namespace: bool) -> String {
    let rows = events.iter().map(|event| {
        let times =
            if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
        let mut row = vec![ago(event.last_ms)];
        row.push(if event.is_warning { "!" } else { "" }.to_owned());
        row.extend(with_namespace.then(|| event.namespace.clone()));
        row.extend([event.object.clone(), event.reason.clone()]);
        row.push(format!("{}{times}", event.message));
        row
    });
    table(&[], rows)
}
