//! `trainyard status`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{Table, presets};
use miette::IntoDiagnostic;
use trainyard_local::history::{History, ReplicaRecord, ServiceRecord};
use trainyard_local::status::{ReplicaPhase, ReplicaStatus, ServiceStatus, Status as Now};

use super::fetching::words;
use super::supervisor::State;
use super::time::ago;
use crate::print::print_line;

/// Show services and their replicas
#[derive(Args)]
pub(crate) struct Status {
    /// Print everything that is known, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

impl Status {
    /// Exit code 1 means that no supervisor runs.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self.state.status()? {
            Some(status) if self.json => {
                print_line(&serde_json::to_string_pretty(&status).into_diagnostic()?)?;
            }
            Some(status) => show(&status)?,
            None => {
                eprintln!("no supervisor runs; `trainyard up TARGET` starts one");
                let history = History::open(&self.state.open()?.database()).into_diagnostic()?;
                if let Some(history) = history {
                    let services = history.services().into_diagnostic()?;
                    let replicas = history.replicas().into_diagnostic()?;
                    if self.json {
                        let last = serde_json::json!({"running": false, "services": services});
                        print_line(&serde_json::to_string_pretty(&last).into_diagnostic()?)?;
                    } else {
                        show_last(&services, &replicas)?;
                    }
                }
                return Ok(ExitCode::from(1));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    table
}

fn show(status: &Now) -> miette::Result<()> {
    let mut text = format!("gateway at http://{}, supervisor {}\n", status.address, status.pid);
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
    print_line(&text)
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
