//! What a supervisor holds of one job.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use trainyard_agent::run::{Report, Seen};
use trainyard_control::job::{Phase, Policy, State, Worker};
use trainyard_plan::JobPlan;

use crate::history::{AttemptRecord, JobRecord, KEPT_ATTEMPTS, WorkerRecord, unix_ms};
use crate::job::{Stops, worker_id};
use crate::replica::Run;
use crate::status::{JobStatus, Recent, WorkerStatus};
use crate::target::DeclaredJob;

/// One run of a job.
pub(super) struct Job {
    pub(super) name: String,
    pub(super) run: u32,
    pub(super) declared: DeclaredJob,
    /// None for one that is over and that this program would not run.
    pub(super) plan: Option<JobPlan>,
    pub(super) state: State,
    pub(super) created_ms: i64,
    /// Those of the latest attempt, by index.
    pub(super) workers: Vec<Held>,
    /// A person, or the end of the supervisor, wants it ended.
    pub(super) stop: bool,
    /// It is taken off the list once it is over.
    pub(super) forget: bool,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) last_error: Option<String>,
    seen: Option<Seen>,
    events: VecDeque<Recent>,
    /// As it was last saved.
    pub(super) saved: Option<JobRecord>,
}

/// One worker.
pub(super) struct Held {
    pub(super) worker: Worker,
    pub(super) run: Option<Run>,
    pub(super) since: SystemTime,
    pub(super) report: Option<Report>,
    pub(super) message: Option<String>,
    pub(super) stops: Stops,
}

impl Held {
    pub(super) fn new(worker: Worker, run: Option<Run>) -> Self {
        Self {
            worker,
            run,
            since: SystemTime::now(),
            report: None,
            message: None,
            stops: Stops::default(),
        }
    }
}

impl Job {
    pub(super) fn new(declared: DeclaredJob, plan: JobPlan, run: u32, now: Duration) -> Self {
        Self {
            name: declared.name().to_owned(),
            run,
            declared,
            plan: Some(plan),
            state: State::new(now),
            created_ms: millis(now),
            workers: Vec::new(),
            stop: false,
            forget: false,
            attempts: Vec::new(),
            last_error: None,
            seen: None,
            events: VecDeque::new(),
            saved: None,
        }
    }

    /// As an earlier supervisor had left it, but for its workers.
    pub(super) fn of_record(record: &JobRecord, plan: Option<JobPlan>) -> Self {
        Self {
            name: record.name.clone(),
            run: record.run,
            declared: DeclaredJob {
                manifest: record.manifest.clone(),
                origin: record.origin.clone(),
                folder: record.folder.clone(),
            },
            plan,
            state: record.state,
            created_ms: record.created_ms,
            workers: Vec::new(),
            stop: record.stop,
            forget: false,
            attempts: record.attempts.clone(),
            last_error: record.last_error.clone(),
            seen: record.seen.clone(),
            events: VecDeque::new(),
            saved: Some(record.clone()),
        }
    }

    pub(super) fn policy(&self) -> Policy {
        let plan = self.plan.as_ref();
        Policy {
            retries: plan.map_or(0, |plan| plan.retries),
            deadline: plan.and_then(|plan| plan.deadline),
        }
    }

    pub(super) fn record(&self) -> JobRecord {
        let workers = self.workers.iter().enumerate().map(|(index, held)| WorkerRecord {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            run: held.run.clone(),
        });
        JobRecord {
            name: self.name.clone(),
            run: self.run,
            manifest: self.declared.manifest.clone(),
            origin: self.declared.origin.clone(),
            folder: self.declared.folder.clone(),
            state: self.state,
            created_ms: self.created_ms,
            last_error: self.last_error.clone(),
            // It changes all the time, and is told by the agents; the history has the last of it.
            seen: if self.state.is_over() { self.seen.clone() } else { None },
            stop: self.stop,
            forgotten: self.forget && self.state.is_over(),
            workers: workers.collect(),
            attempts: self.attempts.clone(),
        }
    }

    /// A worker has told how far it is.
    pub(super) fn reported(&mut self, index: u32, report: Report) {
        if let Some(seen) = &report.seen {
            // The first worker that tells it speaks for all: they are in step.
            let earlier = self.workers.iter().take(index as usize);
            let is_first = !earlier
                .into_iter()
                .any(|held| held.report.as_ref().is_some_and(|report| report.seen.is_some()));
            if is_first {
                self.seen = Some(seen.clone());
            }
        }
        if let Some(held) = self.workers.get_mut(index as usize) {
            held.report = Some(report);
        }
    }

    /// An attempt is over.
    pub(super) fn attempt_ended(&mut self, reason: &str, message: String, now: Duration) {
        if self.attempts.len() >= KEPT_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(AttemptRecord {
            number: self.state.attempts,
            started_ms: millis(self.state.started.unwrap_or(now)),
            ended_ms: millis(now),
            reason: reason.to_owned(),
            message,
            step: self.seen.as_ref().and_then(|seen| seen.step),
        });
    }

    /// Remembers what happened to it.
    pub(super) fn remember(&mut self, recent: Recent) {
        /// A status is for a look; the history has the rest.
        const KEPT: usize = 20;
        while self.events.len() >= KEPT {
            self.events.pop_front();
        }
        self.events.push_back(recent);
    }

    pub(super) fn status(&self) -> JobStatus {
        let workers = self.workers.iter().enumerate().map(|(index, held)| {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            WorkerStatus {
                id: worker_id(&self.name, self.run, index),
                state: state_of(held).to_owned(),
                pid: held.run.as_ref().map(|run| run.identity.pid),
                metrics: held.report.as_ref().and_then(|report| report.metrics),
                seen: held.report.as_ref().and_then(|report| report.seen.clone()),
                since_ms: unix_ms(held.since),
                message: held.message.clone(),
            }
        });
        let starts_at = match self.state.phase {
            Phase::Waiting { until } => Some(millis(until)),
            _ => None,
        };
        JobStatus {
            name: self.name.clone(),
            run: self.run,
            framework: self.declared.manifest.spec.framework.as_str().to_owned(),
            phase: self.state.phase_name().to_owned(),
            reason: self.state.reason.as_str().to_owned(),
            is_over: self.state.is_over(),
            attempts: self.state.attempts,
            failures: self.state.failures,
            retries: self.policy().retries,
            interruptions: self.state.interruptions,
            wanted: self.plan.as_ref().map_or(0, |plan| plan.workers),
            workers: workers.collect(),
            seen: self.seen.clone(),
            created_ms: self.created_ms,
            started_ms: self.state.began.map(millis),
            ended_ms: self.state.ended.map(millis),
            starts_at_ms: starts_at,
            last_error: self.last_error.clone(),
            notes: self.plan.as_ref().map(|plan| plan.notes.clone()).unwrap_or_default(),
            source: self.declared.origin.path().to_owned(),
            events: self.events.iter().cloned().collect(),
        }
    }
}

fn state_of(held: &Held) -> &'static str {
    match held.worker {
        Worker::Running if held.run.is_none() => "starting",
        Worker::Running => "running",
        Worker::Finished => "finished",
        Worker::Failed(_) => "failed",
        Worker::Interrupted => "interrupted",
    }
}

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
