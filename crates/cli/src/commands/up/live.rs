//! What `up` shows while it runs: where to send requests, one that works, and what happens.
//!
//! What people copy (addresses, requests) goes to standard output, and stays; what happens goes to
//! standard error: on a terminal as a block that is drawn anew, elsewhere a line for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write, stderr, stdout};

use trainyard_api::model_service::path_segment;
use trainyard_local::example::curl;
use trainyard_local::status::{Fetch, JobStatus, ServiceStatus, Stage, Status, Transfer};

use super::Names;
use crate::commands::fetching::words;
use crate::commands::jobs;
use crate::size::size;

pub(super) struct Live {
    /// Services that were asked for.
    names: BTreeSet<String>,
    /// Latest status of each of them.
    latest: BTreeMap<String, ServiceStatus>,
    /// Jobs that were asked for.
    jobs: BTreeSet<String>,
    /// Runs of them that were over before.
    earlier: BTreeMap<String, u32>,
    /// Latest status of each of them.
    latest_jobs: BTreeMap<String, JobStatus>,
    shown_header: bool,
    /// Target of each service whose request was shown.
    introduced: BTreeMap<String, String>,
    /// Last line about each service and job.
    lines: BTreeMap<String, String>,
    is_terminal: bool,
    /// What stands on the terminal.
    status: Option<Status>,
    /// Lines of the block there.
    drawn: usize,
}

impl Live {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names: names.services.into_iter().collect(),
            latest: BTreeMap::new(),
            jobs: names.jobs.into_iter().collect(),
            earlier: names.earlier,
            latest_jobs: BTreeMap::new(),
            shown_header: false,
            introduced: BTreeMap::new(),
            lines: BTreeMap::new(),
            is_terminal: stderr().is_terminal(),
            status: None,
            drawn: 0,
        }
    }

    /// A display that draws nothing anew, for where log lines come between.
    pub(super) fn plain(names: Names) -> Self {
        Self { is_terminal: false, ..Self::new(names) }
    }

    pub(super) fn show(&mut self, status: &Status) {
        self.erase();
        let has_gateway = !self.names.is_empty() || !status.services.is_empty();
        if !self.shown_header && has_gateway {
            self.shown_header = true;
            self.print(&header(status));
        }
        for service in &status.services {
            if service.is_settled() && service.ready > 0 && service.example_known {
                self.introduce(status, service);
            }
            let line = line(service, &milestone);
            if self.lines.insert(service.name.clone(), line.clone()).as_ref() != Some(&line)
                && !self.is_terminal
            {
                eprintln!("{line}");
            }
        }
        let earlier = &self.earlier;
        let is_new = |job: &&JobStatus| !job.is_over || earlier.get(&job.name) != Some(&job.run);
        for job in status.jobs.iter().filter(is_new) {
            let line = jobs::line(job, false);
            if self.lines.insert(job.name.clone(), line.clone()).as_ref() != Some(&line)
                && !self.is_terminal
            {
                eprintln!("{line}");
            }
        }
        let is_asked = |job: &&JobStatus| self.jobs.contains(&job.name);
        let asked = status.jobs.iter().filter(is_new).filter(is_asked);
        self.latest_jobs = asked.map(|job| (job.name.clone(), job.clone())).collect();
        let names = &self.names;
        let services = status.services.iter().filter(|service| names.contains(&service.name));
        self.latest = services.map(|service| (service.name.clone(), service.clone())).collect();
        if self.is_terminal {
            // A line that wraps would take more rows than are erased again.
            let width = terminal_width();
            for service in &status.services {
                eprintln!("{}", line(service, &words).chars().take(width).collect::<String>());
            }
            for job in &status.jobs {
                eprintln!("{}", jobs::line(job, true).chars().take(width).collect::<String>());
            }
            self.drawn = status.services.len().saturating_add(status.jobs.len());
            self.status = Some(status.clone());
        }
    }

    /// Whether seconds run down on the terminal.
    pub(super) fn counts_down(&self) -> bool {
        let mut services = self.status.iter().flat_map(|status| &status.services);
        self.drawn > 0
            && services.any(|service| matches!(service.fetch, Some(Fetch::Retrying { .. })))
    }

    /// Draws the block anew.
    pub(super) fn redraw(&mut self) {
        if let Some(status) = self.status.take() {
            self.show(&status);
        }
    }

    /// One line that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.erase();
        eprintln!("{text}");
    }

    /// Whether every job that was asked for has come to its end.
    pub(super) fn jobs_are_over(&self) -> bool {
        self.jobs.iter().all(|name| self.latest_jobs.get(name).is_some_and(|job| job.is_over))
    }

    fn serves(&self, name: &str) -> bool {
        self.latest.get(name).is_some_and(|service| {
            service.is_settled() && (service.ready == 0 || self.introduced.contains_key(name))
        })
    }

    /// Whether every one of them serves as it should, or has a change that waits by itself. Gives
    /// what is to be said of those that wait.
    pub(super) fn is_in_hand(&self) -> Option<Vec<String>> {
        let mut waiting = Vec::new();
        for name in &self.names {
            let service = self.latest.get(name)?;
            if service.waits() {
                waiting.push(format!(
                    "{name}: the change to {} waits ({}) and goes on by itself; `trainyard status` shows it",
                    service.target, service.reason
                ));
            } else if !self.serves(name) {
                return None;
            }
        }
        // A job that runs is where it should be; what comes of it takes its time.
        let is_under_way = |job: &JobStatus| {
            job.is_over
                || job.phase == "Running" && job.running() == job.wanted as usize
                || job.waits_in_queue()
                || job.reason == "DataUnavailable"
        };
        let are_under_way =
            self.jobs.iter().all(|name| self.latest_jobs.get(name).is_some_and(is_under_way));
        if !are_under_way {
            return None;
        }
        let queued = self.latest_jobs.values().filter(|job| job.waits_in_queue());
        waiting.extend(queued.map(|job| {
            format!("{} waits and starts by itself; `trainyard queue` shows when", job.name)
        }));
        Some(waiting)
    }

    /// Whether one of them needs a person.
    pub(super) fn has_failed(&self) -> bool {
        self.latest.values().any(ServiceStatus::has_failed)
            || self.latest_jobs.values().any(|job| job.has_failed() || job.needs_a_person())
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            // Up over the block, and clear to the end of the screen.
            eprint!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn print(&self, text: &str) {
        // Nobody may be reading, and the services go on all the same.
        let _ = writeln!(stdout(), "{text}").and_then(|()| stdout().flush());
    }

    /// Shows where a service is and a request that works, once for each revision.
    fn introduce(&mut self, status: &Status, service: &ServiceStatus) {
        if self.introduced.get(&service.name) == Some(&service.target) {
            return;
        }
        self.introduced.insert(service.name.clone(), service.target.clone());
        let mut text = format!("\n{} is ready", service.name);
        for model in &service.models {
            let model = path_segment(model);
            let url = format!("http://{}/v2/models/{model}/infer", status.address);
            match &service.example {
                Some(example) => {
                    text.push_str(&format!("\n  {}", curl(example, &url, service.needs_key)));
                }
                None => text.push_str(&format!("\n  {url}")),
            }
        }
        for note in &service.notes {
            text.push_str(&format!("\n  note: {note}"));
        }
        self.print(&text);
    }
}

/// Columns of the terminal that standard error goes to.
fn terminal_width() -> usize {
    let mut table = comfy_table::Table::new();
    table.use_stderr();
    table.width().map_or(usize::MAX, usize::from)
}

fn header(status: &Status) -> String {
    let address = status.address;
    format!(
        "Trainyard {} serves\n  REST     http://{address}/v2\n  gRPC     {address}\n  metrics  http://{address}/metrics",
        status.version
    )
}

/// What stays true for a while of how a model comes here: where nothing is drawn anew, each change
/// is a line.
fn milestone(fetch: &Fetch) -> String {
    match fetch {
        Fetch::Retrying { failures: 1, .. } => "fetch failed, retrying".to_owned(),
        Fetch::Retrying { failures, .. } => format!("fetch failed {failures} times, retrying"),
        Fetch::Transferring(Transfer { stage, done_bytes, total_bytes: Some(total) })
            if *total > 0 =>
        {
            let tenth = u128::from(*done_bytes) * 10 / u128::from(*total);
            let stage = match stage {
                Stage::Verifying => "verifying",
                Stage::Waiting | Stage::Downloading => "fetching",
            };
            format!("{stage}, {}% of {}", tenth.min(10) * 10, size(*total))
        }
        Fetch::Transferring(_) => "fetching".to_owned(),
    }
}

fn line(service: &ServiceStatus, of_fetch: &dyn Fn(&Fetch) -> String) -> String {
    let ServiceStatus { name, phase, reason, ready, wanted, target, .. } = service;
    let mut line = format!("{name}  {phase} ({reason})  {ready}/{wanted} ready  {target}");
    if let Some(fetch) = &service.fetch {
        line.push_str("  ");
        line.push_str(&of_fetch(fetch));
    }
    let of_replicas = service.replicas.iter().find_map(|replica| replica.message.as_ref());
    if let Some(problem) = service.last_error.as_ref().or(of_replicas) {
        // One line each; `trainyard status` has the rest.
        line.push_str(": ");
        line.push_str(problem.lines().next().unwrap_or_default());
    }
    line
}
