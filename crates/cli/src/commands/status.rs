//! `trainyard status`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use miette::IntoDiagnostic;
use serde_json::{Value, json};
use trainyard_local::history::{History, ReplicaRecord, ServiceRecord};
use trainyard_local::socket::{Client, Request};
use trainyard_local::status::{ReplicaPhase, ReplicaStatus, ServiceStatus, Status as Now};
use trainyard_operator::console::{Console, Replica, Selection, Summary};

use super::fetching::words;
use super::jobs;
use super::output::{self, Format};
use super::place::{AllNamespaces, Here, Intent, Place, PlaceArgs, PlaceError};
use super::supervisor::{block_on, explain};
use super::time::ago;
use crate::failure::failure;
use crate::print::print_line;
use crate::yaml;

/// Show services, their replicas and training jobs, and what is wrong with them
#[derive(Args)]
pub(crate) struct Status {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The same as `-o json`: everything that is known
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Go on, and print it again at each change
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    all: AllNamespaces,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Changes that come together are shown once.
const GATHER: Duration = Duration::from_millis(200);

impl Status {
    /// Exit code 1 means that no supervisor runs.
    pub(crate) fn run(mut self) -> miette::Result<ExitCode> {
        if self.json {
            self.output = Format::Json;
        }
        block_on(self.answer())?
    }

    async fn answer(self) -> miette::Result<ExitCode> {
        let intent = Intent {
            for_machines: self.output.is_for_machines(),
            all_namespaces: Some(self.all),
            ..Intent::LOOK
        };
        match self.place.open(intent).await? {
            Place::Here(here) => self.here(&here).await,
            Place::Cluster(console) => self.in_cluster(&console).await,
        }
    }

    async fn here(&self, here: &Here) -> miette::Result<ExitCode> {
        let Some(status) = here.state.status().await? else {
            eprintln!("no supervisor runs; `trainyard up TARGET` starts one");
            self.last(here)?;
            return Ok(ExitCode::from(1));
        };
        print_line(&self.text(&status)?)?;
        if !self.watch {
            return Ok(ExitCode::SUCCESS);
        }
        let socket = here.state.open()?.socket();
        let mut watch = Client::send(&socket, &Request::Watch).await.map_err(explain)?;
        let mut before = self.text(&status)?;
        while let Some(status) = watch.next_status().await.map_err(explain)? {
            let text = self.text(&status)?;
            if text != before {
                self.again(&text)?;
                before = text;
            }
            tokio::time::sleep(GATHER).await;
        }
        eprintln!("the supervisor has ended");
        Ok(ExitCode::from(1))
    }

    fn text(&self, status: &Now) -> miette::Result<String> {
        match self.output {
            Format::Table | Format::Wide => Ok(show(status)),
            Format::Json => serde_json::to_string_pretty(status).into_diagnostic(),
            Format::Yaml => Ok(yaml::document(status)?.trim_end().to_owned()),
            Format::Name => {
                let names =
                    status.services.iter().map(|it| format!("{}/{}", output::SINGULAR, it.name));
                let of_jobs =
                    status.jobs.iter().map(|it| format!("{}/{}", jobs::SINGULAR, it.name));
                let names = names.chain(of_jobs);
                Ok(names.collect::<Vec<_>>().join("\n"))
            }
        }
    }

    /// What a supervisor that is gone had written down.
    fn last(&self, here: &Here) -> miette::Result<()> {
        let history = History::open(&here.state.open()?.database()).into_diagnostic()?;
        let Some(history) = history else { return Ok(()) };
        let services = history.services().into_diagnostic()?;
        let replicas = history.replicas().into_diagnostic()?;
        if self.output.is_for_machines() {
            let jobs = history.jobs().into_diagnostic()?;
            let last = json!({"running": false, "services": services, "jobs": jobs});
            return print_line(&serde_json::to_string_pretty(&last).into_diagnostic()?);
        }
        show_last(&services, &replicas)?;
        let jobs = jobs::show_last(&history.newest_jobs().into_diagnostic()?);
        if jobs.is_empty() { Ok(()) } else { print_line(&jobs) }
    }

    async fn in_cluster(&self, console: &Console) -> miette::Result<ExitCode> {
        let selection = Selection::default();
        if !self.watch {
            let services = console.services(&selection).await.map_err(PlaceError::from)?;
            print_line(&self.of_cluster(console, &services).await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut watch = console.watch(&selection);
        let mut before = String::new();
        loop {
            let services = watch.next().await.map_err(PlaceError::from)?;
            let services: Vec<Value> = services.values().cloned().collect();
            let text = self.of_cluster(console, &services).await?;
            if text != before {
                self.again(&text)?;
                before = text;
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Prints the whole anew, on a terminal in place of what was there.
    fn again(&self, text: &str) -> miette::Result<()> {
        use std::io::IsTerminal;
        if self.output.is_for_machines() {
            return print_line(text);
        }
        let is_terminal = std::io::stdout().is_terminal();
        print_line(&if is_terminal { format!("\x1b[H\x1b[2J{text}") } else { format!("\n{text}") })
    }

    async fn of_cluster(&self, console: &Console, services: &[Value]) -> miette::Result<String> {
        if self.output == Format::Name {
            return Ok(output::names(services));
        }
        let replicas = match console.replicas(None).await.map_err(PlaceError::from) {
            Ok(replicas) => replicas,
            // Services are told of even to who may not see pods.
            Err(error) => match error.missing_right() {
                Some(right) => {
                    eprintln!("replicas are not shown: you may not {right}");
                    Vec::new()
                }
                None => return Err(error.into()),
            },
        };
        match self.output {
            Format::Json | Format::Yaml => {
                let replicas: Vec<Value> = replicas.iter().map(replica_value).collect();
                let whole = json!({"services": services, "replicas": replicas});
                match self.output {
                    Format::Yaml => Ok(yaml::document(&whole)?.trim_end().to_owned()),
                    _ => serde_json::to_string_pretty(&whole).map_err(failure),
                }
            }
            _ => {
                let programs = console.programs().await;
                let with_namespace = console.namespace().is_none();
                let wide = self.output == Format::Wide;
                Ok(show_cluster(&programs, services, &replicas, with_namespace, wide))
            }
        }
    }
}

fn replica_value(replica: &Replica) -> Value {
    json!({
        "namespace": replica.namespace, "service": replica.service, "name": replica.name,
        "revision": replica.revision, "state": replica.state.as_str(), "node": replica.place,
        "address": replica.address, "restarts": replica.restarts, "sinceMs": replica.since_ms,
        "message": replica.trouble,
    })
}

/// The same tables that there are for one machine.
fn show_cluster(
    programs: &[String],
    services: &[Value],
    replicas: &[Replica],
    with_namespace: bool,
    wide: bool,
) -> String {
    let mut parts = Vec::new();
    if !programs.is_empty() {
        parts.push(programs.join(", "));
    }
    let seen: Vec<Summary> = services.iter().map(Summary::of).collect();
    if seen.is_empty() {
        parts.push("no services".to_owned());
        return parts.join("\n\n");
    }
    let place = |namespace: &str| with_namespace.then(|| namespace.to_owned());
    let columns = |names: &[&'static str], more: &[&'static str]| -> Vec<&'static str> {
        let namespace = with_namespace.then_some("NAMESPACE");
        namespace.into_iter().chain(names.iter().chain(more).copied()).collect()
    };
    let more: &[&str] = if wide { &["URL", "MODEL"] } else { &[] };
    let header = columns(&["SERVICE", "PHASE", "READY", "REVISION", "REASON"], more);
    let rows = seen.iter().map(|it| {
        let ready = format!("{}/{}", it.ready_replicas, it.replicas);
        let row =
            [it.name.clone(), it.phase.to_owned(), ready, it.revision.clone(), it.reason.clone()];
        let more = wide.then(|| [it.url.clone(), it.model.clone()]).into_iter().flatten();
        place(&it.namespace).into_iter().chain(row).chain(more).collect()
    });
    parts.push(crate::table::table(&header, rows));
    if !replicas.is_empty() {
        let traffic = traffic(services);
        let header = columns(&["REPLICA", "STATE", "TRAFFIC", "NODE", "RESTARTS", "AGE"], &[]);
        let rows = replicas.iter().map(|it| {
            let share = traffic.get(&(it.namespace.as_str(), it.revision.as_str()));
            let share = share.filter(|_| it.state.as_str() == "ready");
            let row = [
                it.name.clone(),
                it.state.as_str().to_owned(),
                share.map_or_else(|| "-".to_owned(), |share| format!("{share}%")),
                it.place.clone(),
                it.restarts.to_string(),
                ago(it.since_ms),
            ];
            place(&it.namespace).into_iter().chain(row).collect()
        });
        parts.push(crate::table::table(&header, rows));
    }
    for service in seen.iter().filter(|service| !service.is_well()) {
        let name = match with_namespace {
            true => format!("{}/{}", service.namespace, service.name),
            false => service.name.clone(),
        };
        let message = match service.message.is_empty() {
            true => "no operator has seen it yet; `trainyard install` brings one",
            false => &service.message,
        };
        parts.push(format!("{name}: {message}"));
    }
    parts.join("\n\n")
}

/// Percent of the requests by namespace and revision.
fn traffic(services: &[Value]) -> BTreeMap<(&str, &str), u64> {
    let revisions = services.iter().flat_map(|service| {
        let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
        let revisions = service["status"]["revisions"].as_array().into_iter().flatten();
        revisions.map(move |it| {
            let name = it["name"].as_str().unwrap_or_default();
            ((namespace, name), it["traffic"].as_u64().unwrap_or(0))
        })
    });
    revisions.collect()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    table
}

fn show(status: &Now) -> String {
    let mut text = format!("gateway at http://{}, supervisor {}\n", status.address, status.pid);
    if status.services.is_empty() && !status.jobs.is_empty() {
        text.push_str(&jobs::show(&status.jobs));
        return text;
    }
    // Only where clients use another name than the commands here.
    let is_renamed = |service: &ServiceStatus| service.models != [service.name.as_str()];
    let with_models = status.services.iter().any(is_renamed);
    let mut header = vec!["SERVICE", "PHASE", "READY", "REVISION", "REASON"];
    header.extend(with_models.then_some("MODEL"));
    let mut services = table(&header);
    for service in &status.services {
        let mut row = vec![
            service.name.clone(),
            service.phase.clone(),
            format!("{}/{}", service.ready, service.wanted),
            service.target.clone(),
            service.reason.clone(),
        ];
        row.extend(with_models.then(|| service.models.join(", ")));
        services.add_row(row);
    }
    text.push_str(&services.to_string());
    let mut replicas = table(&["REPLICA", "STATE", "TRAFFIC", "PID", "RESTARTS", "SINCE", ""]);
    for (service, replica) in
        status.services.iter().flat_map(|s| s.replicas.iter().map(move |r| (s, r)))
    {
        replicas.add_row(replica_row(service, replica));
    }
    if status.services.iter().any(|service| !service.replicas.is_empty()) {
        text.push_str(&format!("\n\n{replicas}"));
    }
    for service in &status.services {
        let fetch = service.fetch.as_ref().map(words);
        for remark in fetch.iter().chain(&service.last_error).chain(&service.notes) {
            text.push_str(&format!("\n\n{}: {remark}", service.name));
        }
    }
    if !status.jobs.is_empty() {
        text.push_str("\n\n");
        text.push_str(&jobs::show(&status.jobs));
    }
    text
}

fn replica_row(service: &ServiceStatus, replica: &ReplicaStatus) -> Vec<String> {
    // The gateway sends nothing to a replica that starts or drains, whatever its revision gets.
    let weight = service
        .revisions
        .iter()
        .find(|revision| revision.name == replica.revision && replica.phase == ReplicaPhase::Ready);
    vec![
        replica.id.clone(),
        replica.phase.as_str().to_owned(),
        weight.map_or("-".to_owned(), |revision| format!("{}%", revision.weight)),
        replica.pid.map_or(String::new(), |pid| pid.to_string()),
        replica.restarts.to_string(),
        ago(replica.since_ms),
        replica.message.clone().unwrap_or_default(),
    ]
}

/// What a supervisor that is gone had written down.
fn show_last(services: &[ServiceRecord], replicas: &[ReplicaRecord]) -> miette::Result<()> {
    let mut last = table(&["SERVICE", "WAS", "REVISION", "LAST ERROR"]);
    for service in services {
        last.add_row(vec![
            service.name.clone(),
            if service.active { "up" } else { "down" }.to_owned(),
            service.target.to_string(),
            service.last_error.clone().unwrap_or_default(),
        ]);
    }
    if !services.is_empty() {
        print_line(&last.to_string())?;
    }
    for replica in replicas.iter().filter(|replica| replica.is_alive()) {
        print_line(&format!(
            "{} still runs as pid {}; `trainyard up` takes it over, `trainyard down` ends it",
            replica.id,
            replica.pid()
        ))?;
    }
    Ok(())
}
