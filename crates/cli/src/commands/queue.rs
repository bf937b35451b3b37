//! `trainyard queue`.

use std::process::ExitCode;

use clap::Args;
use miette::miette;
use trainyard_local::status::QueueStatus;
use trainyard_operator::console::{JobAdmitted, JobWaiting, QueueSeen, time_text};

use super::output::Format;
use super::place::{Intent, Place, PlaceArgs, PlaceError};
use super::supervisor::block_on;
use crate::failure::failure;
use crate::print::print_line;
use crate::table::table;
use crate::yaml;

/// Show queues of jobs: who waits, why, behind whom and until when, and who has what
///
/// Of a cluster it shows what the operator has decided and written down; on one machine the queue of
/// the machine itself, and those that were declared.
#[derive(Args)]
pub(crate) struct Queue {
    /// Only this queue
    name: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: PlaceArgs,
}

impl Queue {
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        block_on(self.answer())?
    }

    async fn answer(self) -> miette::Result<ExitCode> {
        let intent = Intent { for_machines: self.output.is_for_machines(), ..Intent::LOOK };
        let name = self.name.as_deref();
        let queues = match self.place.open(intent).await? {
            Place::Here(here) => {
                let queues = here.queues().await?.into_iter();
                let is_meant = |it: &QueueStatus| name.is_none_or(|name| it.name == name);
                queues.filter(is_meant).map(of_machine).collect()
            }
            Place::Cluster(console) => {
                let (queues, notes) = console.queues(name).await.map_err(PlaceError::from)?;
                for note in notes {
                    eprintln!("note: {note}");
                }
                queues
            }
        };
        if let (Some(name), true) = (name, queues.is_empty()) {
            return Err(miette!("there is no queue `{name}`; `trainyard queue` shows all"));
        }
        let text = match self.output {
            Format::Name => {
                let ours = queues.iter().filter(|it| it.by.is_none());
                let names = ours.map(|it| format!("queue.trainyard.dev/{}", it.name));
                names.collect::<Vec<_>>().join("\n")
            }
            Format::Json => serde_json::to_string_pretty(&queues).map_err(failure)?,
            Format::Yaml => yaml::document(&queues)?.trim_end().to_owned(),
            Format::Table | Format::Wide => {
                let wide = self.output == Format::Wide;
                queues.iter().map(|queue| shown(queue, wide)).collect::<Vec<_>>().join("\n\n")
            }
        };
        match text.is_empty() {
            true => eprintln!("no queue is declared"),
            false => print_line(&text)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A queue of this machine, as a cluster would show it.
fn of_machine(queue: QueueStatus) -> QueueSeen {
    let waiting = queue.waiting.into_iter().map(|it| JobWaiting {
        job: it.job,
        priority: it.priority,
        workers: it.workers,
        reason: Some(it.reason),
        message: Some(it.message),
        behind: it.behind,
        ahead: Some(it.ahead),
        expected_start: it.expected_start_ms.and_then(time_text),
    });
    let admitted = queue.admitted.into_iter().map(|it| JobAdmitted {
        job: it.job,
        priority: it.priority,
        workers: it.workers,
        pool: it.pool,
        borrows: it.borrows,
        phase: it.phase,
        since: time_text(it.since_ms).unwrap_or_default(),
    });
    QueueSeen {
        by: None,
        namespace: None,
        name: queue.name,
        cohort: queue.cohort,
        usage: queue.usage,
        share: queue.share,
        waiting: waiting.collect(),
        admitted: admitted.collect(),
    }
}

/// One queue for people: what it uses, who has it, who waits.
fn shown(queue: &QueueSeen, wide: bool) -> String {
    let of = queue.cohort.as_ref().map(|cohort| format!(" of the cohort `{cohort}`"));
    let home = queue.namespace.as_ref().map(|namespace| format!(" in `{namespace}`"));
    let by = queue.by.as_ref().map(|by| format!("{by}'s "));
    let mut parts = vec![format!(
        "{}{} `{}`{}{}",
        by.clone().unwrap_or_default(),
        if queue.namespace.is_some() { "LocalQueue" } else { "Queue" },
        queue.name,
        home.unwrap_or_default(),
        of.unwrap_or_default()
    )];
    let usage = queue.usage.iter().map(|it| {
        vec![
            it.pool.clone(),
            it.resource.clone(),
            format!("{} of {}", it.used, it.nominal),
            it.borrowed.clone(),
        ]
    });
    if !queue.usage.is_empty() {
        parts.push(table(&["POOL", "RESOURCE", "USED", "BORROWED"], usage));
    }
    let admitted = queue.admitted.iter().map(|it| {
        vec![
            it.job.clone(),
            it.phase.clone(),
            it.priority.to_string(),
            it.workers.to_string(),
            it.pool.clone(),
            match (&by, it.borrows) {
                (Some(_), _) => "-",
                (None, true) => "borrowed",
                (None, false) => "nominal",
            }
            .to_owned(),
            it.since.clone(),
        ]
    });
    if !queue.admitted.is_empty() {
        let header = ["ADMITTED", "PHASE", "PRIORITY", "WORKERS", "POOL", "QUOTA", "SINCE"];
        parts.push(table(&header, admitted));
    }
    let waiting = queue.waiting.iter().map(|it| {
        let unknown = || "unknown".to_owned();
        let why = if wide { &it.message } else { &it.reason };
        vec![
            it.job.clone(),
            it.priority.to_string(),
            it.workers.to_string(),
            it.behind.clone().unwrap_or_else(|| "-".to_owned()),
            it.expected_start.clone().unwrap_or_else(unknown),
            why.clone().unwrap_or_else(unknown),
        ]
    });
    match queue.waiting.is_empty() {
        true if by.is_some() => parts.push("no job of Trainyard's waits".to_owned()),
        true => parts.push("nobody waits".to_owned()),
        false => {
            let header = ["WAITING", "PRIORITY", "WORKERS", "BEHIND", "STARTS BY", "WHY"];
            parts.push(table(&header, waiting));
        }
    }
    parts.join("\n")
}

#[test]
fn what_people_see() {
    let queue: QueueSeen = QueueSeen {
        by: None,
        namespace: None,
        name: "research".to_owned(),
        cohort: Some("all".to_owned()),
        usage: vec![trainyard_operator::console::QueueUse {
            pool: "t4".to_owned(),
            resource: "gpu".to_owned(),
            used: "6".to_owned(),
            nominal: "4".to_owned(),
            borrowed: "2".to_owned(),
        }],
        share: 250,
        waiting: vec![trainyard_operator::console::JobWaiting {
            job: "ml/big".to_owned(),
            priority: 5,
            workers: 4,
            reason: Some("QuotaUsed".to_owned()),
            message: Some("it asks for more".to_owned()),
            behind: None,
            ahead: Some(0),
            expected_start: Some("2026-01-01T00:00:00Z".to_owned()),
        }],
        admitted: vec![trainyard_operator::console::JobAdmitted {
            job: "ml/runs".to_owned(),
            priority: 0,
            workers: 6,
            pool: "t4".to_owned(),
            borrows: true,
            phase: "Running".to_owned(),
            since: "2025-12-31T00:00:00Z".to_owned(),
        }],
    };
    insta::assert_snapshot!(shown(&queue, false));
    let elsewhere = QueueSeen {
        by: Some("Kueue".to_owned()),
        namespace: Some("ml".to_owned()),
        cohort: None,
        usage: Vec::new(),
        waiting: Vec::new(),
        ..queue
    };
    insta::assert_snapshot!(shown(&elsewhere, false));
}
