//! What a supervisor holds of one job.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use trainyard_agent::run::{Report, Seen};
use trainyard_control::job::{Phase, Policy, State, Worker};
use trainyard_plan::{Demand, JobPlan, compile_job};
use trainyard_queue::{Amounts, Grant, Resize, Waiting, Workload};

use super::check::Check;
use super::ration::{DEFAULT, MACHINE};
use crate::history::{AttemptRecord, JobRecord, KEPT_ATTEMPTS, WorkerRecord, unix_ms};
use crate::job::{Stops, worker_id};
use crate::machine;
use crate::replica::Run;
use crate::status::{JobQuota, JobStatus, Recent, WorkerStatus};
use crate::target::DeclaredJob;

/// Processes start in milliseconds; a program with its framework's libraries takes about so long.
const PROCESSES_START: Duration = Duration::from_secs(1);

/// One run of a job.
pub(super) struct Job {
    pub(super) name: String,
    pub(super) run: u32,
    pub(super) declared: DeclaredJob,
    /// None for one that is over and that this program would not run.
    pub(super) plan: Option<JobPlan>,
    /// What it asks its queue for.
    pub(super) demand: Demand,
    /// Whether its data is there, which is looked for before it asks.
    pub(super) check: Check,
    /// What that gave it; none while it waits.
    pub(super) given: Option<Grant>,
    /// GPUs that are its own.
    pub(super) gpus: Vec<String>,
    /// Why it waits in its queue.
    pub(super) waiting: Option<Waiting>,
    /// For whom it has to make room, or had to, for people.
    pub(super) preempted: Option<String>,
    /// Its workers end and start again as so many. What they give up is theirs until the last of them
    /// has ended; what they get is theirs already.
    pub(super) resize: Option<Resize>,
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
            demand: Demand::of(&declared.manifest, &machine::target()),
            declared,
            check: if plan.data.is_empty() { Check::Done } else { Check::UnderWay },
            plan: Some(plan),
            given: None,
            gpus: Vec::new(),
            waiting: None,
            preempted: None,
            resize: None,
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
            check: match &plan {
                // One that was started before had found it.
                Some(plan) if !plan.data.is_empty() && record.state.attempts == 0 => {
                    Check::UnderWay
                }
                _ => Check::Done,
            },
            plan,
            demand: Demand::of(&record.manifest, &machine::target()),
            given: record.given.clone(),
            gpus: record.gpus.clone(),
            waiting: record.waiting.clone(),
            preempted: None,
            resize: record.resize.clone(),
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
            given: self.given.clone(),
            gpus: self.gpus.clone(),
            waiting: self.waiting.clone(),
            resize: self.resize.clone(),
        }
    }

    /// The queue that it waits in. Where none is declared, all wait for the machine.
    pub(super) fn queue(&self, has_queues: bool) -> &str {
        self.demand.queue.as_deref().filter(|_| has_queues).unwrap_or(MACHINE)
    }

    /// What one worker takes of a quota.
    pub(super) fn per_worker(&self) -> Amounts {
        let Demand { cpu, memory, gpus, .. } = self.demand;
        Amounts { cpu: cpu.0, memory: memory.0, gpu: gpus.into() }
    }

    /// What it asks for, or has; none for one that does neither.
    pub(super) fn workload(&self, has_queues: bool) -> Option<Workload> {
        if self.state.is_over() {
            return None;
        }
        let queue = self.queue(has_queues);
        let created = u64::try_from(self.created_ms).unwrap_or(0);
        let common = Workload {
            queue: queue.to_owned(),
            priority: self.demand.priority,
            created: Duration::from_millis(created),
            count: self.demand.workers,
            min_count: (self.demand.min_workers < self.demand.workers)
                .then_some(self.demand.min_workers),
            restart_cost: self
                .plan
                .as_ref()
                .and_then(|plan| plan.checkpoint.as_ref())
                .map(|checkpoint| checkpoint.grace.saturating_add(PROCESSES_START)),
            ..Workload::default()
        };
        let policy = self.policy();
        if let Some(given) = &self.given {
            // Workers of which one has failed start again with what they have.
            return Some(given.held_by(
                common,
                self.state.deadline(&policy),
                self.state.is_leaving(),
                self.resize.as_ref(),
            ));
        }
        let waits = matches!(self.state.phase, Phase::Waiting { .. }) && self.check == Check::Done;
        if self.stop || !waits {
            return None;
        }
        let pool = self.demand.pool.as_deref();
        let flavour = match queue {
            MACHINE => MACHINE,
            _ => pool.unwrap_or(DEFAULT),
        };
        Some(Workload {
            per_worker: self.per_worker(),
            flavours: vec![flavour.to_owned()],
            run_time: self.state.left(&policy),
            ..common
        })
    }

    /// Whether its queue has to let it in before anything of it starts.
    pub(super) fn is_queued(&self) -> bool {
        self.given.is_none() && matches!(self.state.phase, Phase::Waiting { .. })
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

    /// `why` is why it waits in its queue, for people.
    pub(super) fn status(&self, why: Option<String>) -> JobStatus {
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
        let starts_at = match (self.state.phase, &self.waiting) {
            (Phase::Waiting { .. }, Some(waiting)) => waiting.expected_start.map(millis),
            (Phase::Waiting { until }, None) => Some(millis(until)),
            _ => None,
        };
        let quota = match (&self.given, &self.waiting) {
            _ if self.state.is_over() => None,
            (Some(given), _) => Some(JobQuota {
                is_reserved: true,
                reason: "Admitted".to_owned(),
                message: given.to_string(),
                needs_a_person: false,
            }),
            (None, Some(waiting)) => Some(JobQuota {
                is_reserved: false,
                reason: waiting.reason.as_str().to_owned(),
                message: why.unwrap_or_default(),
                needs_a_person: waiting.reason.needs_a_person(),
            }),
            (None, None) => None,
        };
        let reason = match (&quota, self.check) {
            _ if !self.is_queued() => self.state.reason.as_str(),
            (_, Check::UnderWay) => "CheckingData",
            (_, Check::Unavailable(_)) => "DataUnavailable",
            (Some(quota), Check::Done) => quota.reason.as_str(),
            (None, Check::Done) => self.state.reason.as_str(),
        };
        let reason = reason.to_owned();
        JobStatus {
            name: self.name.clone(),
            run: self.run,
            framework: self.declared.manifest.spec.framework.as_str().to_owned(),
            phase: self.state.phase_name().to_owned(),
            reason,
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
            quota,
            last_error: self.last_error.clone(),
            notes: self.plan.as_ref().map(|plan| plan.notes.clone()).unwrap_or_default(),
            source: self.declared.origin.path().to_owned(),
            events: self.events.iter().cloned().collect(),
        }
    }
}

/// A job as its record has it: what is known while no supervisor runs. Of one that is not over, the
/// workers are running that still do, and the others interrupted.
pub fn as_recorded(record: &JobRecord) -> JobStatus {
    let plan = compile_job(&record.manifest, &machine::target()).ok();
    let mut job = Job::of_record(record, plan);
    // Nobody looks for its data.
    job.check = Check::Done;
    let workers = record.workers.iter().filter(|_| !record.state.is_over());
    job.workers.extend(workers.map(|worker| {
        let run = worker.run.clone().filter(|run| run.identity.is_alive());
        let state = if run.is_some() { Worker::Running } else { Worker::Interrupted };
        let since = SystemTime::UNIX_EPOCH + record.state.started.unwrap_or_default();
        Held { since, ..Held::new(state, run) }
    }));
    job.status(Some("no supervisor runs, and so it waits for one".to_owned()))
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};
    use trainyard_api::TrainingJob;
    use trainyard_api::scalar::{Bytes, Millicores};
    use trainyard_plan::{Target, compile_job};
    use trainyard_queue::Assignment;

    use super::*;
    use crate::target::Origin;

    fn job(more: &[(&str, Value)]) -> Job {
        let mut manifest = json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"},
            "spec": {"framework": "generic", "command": ["t"]},
        });
        for (field, value) in more {
            manifest["spec"][field] = value.clone();
        }
        let manifest: TrainingJob = serde_json::from_value(manifest).unwrap();
        let machine = Target::Local { cpu: Millicores(8000), memory: Bytes(1 << 30), gpus: 0 };
        let plan = compile_job(&manifest, &machine).unwrap();
        let path = PathBuf::from("/jobs/a.yaml");
        let declared =
            DeclaredJob { manifest, origin: Origin::Manifest { path }, folder: "/jobs".into() };
        Job::new(declared, plan, 1, Duration::from_millis(1500))
    }

    #[test]
    fn what_it_asks_for_and_what_it_has() {
        let mut job = job(&[
            ("queue", json!("research")),
            ("priority", json!(3)),
            ("workers", json!({"count": 4, "min": 2})),
            ("resources", json!({"cpu": "500m"})),
            ("deadline", json!("1h")),
        ]);
        let asks = job.workload(true).unwrap();
        assert_eq!((asks.queue.as_str(), asks.priority), ("research", 3));
        assert_eq!((asks.count, asks.min_count, asks.per_worker.cpu), (4, Some(2), 500));
        assert_eq!(asks.flavours, ["default"]);
        assert_eq!(asks.created, Duration::from_millis(1500));
        assert_eq!(asks.run_time, Some(Duration::from_secs(3600)));
        // Where no queue is declared it waits for the machine.
        let here = job.workload(false).unwrap();
        assert_eq!((here.queue.as_str(), here.flavours[0].as_str()), (MACHINE, MACHINE));

        job.given = Some(Grant {
            queue: "research".to_owned(),
            assignment: Assignment { flavour: "default".to_owned(), count: 2, borrows: false },
            per_worker: job.per_worker(),
            since: Duration::from_secs(2),
            resized: None,
        });
        job.state.phase = Phase::Running;
        let has = job.workload(false).unwrap();
        assert_eq!(has.queue, "research");
        assert_eq!(has.admission.map(|it| (it.count, it.is_leaving)), Some((2, false)));
        job.state = job.state.preempted();
        assert!(job.workload(true).unwrap().admission.unwrap().is_leaving);
        job.state.phase = Phase::Succeeded;
        assert_eq!(job.workload(true), None);
    }

    #[test]
    fn who_is_not_to_start_asks_for_nothing() {
        let mut stopped = job(&[]);
        stopped.stop = true;
        assert_eq!(stopped.workload(false), None);
        let data = json!([{"name": "words", "uri": "file://./words"}]);
        let mut unchecked = job(&[("data", data)]);
        assert_eq!((unchecked.workload(false), unchecked.check), (None, Check::UnderWay));
        assert_eq!(unchecked.status(None).reason, "CheckingData");
        unchecked.check = Check::Done;
        assert!(unchecked.workload(false).is_some());
    }

    #[test]
    fn what_its_record_tells() {
        let data = json!([{"name": "words", "uri": "file://./words"}]);
        let mut job =
            job(&[("data", data), ("workers", json!({"count": 2})), ("retries", json!(5))]);
        let told = as_recorded(&job.record());
        assert_eq!((told.phase.as_str(), told.is_over, told.wanted), ("Waiting", false, 2));
        assert_ne!(told.reason, "CheckingData", "nobody does");

        job.state.phase = Phase::Running;
        job.state.attempts = 2;
        job.workers.extend([(); 2].map(|()| Held::new(Worker::Running, None)));
        let told = as_recorded(&job.record());
        assert_eq!((told.phase.as_str(), told.running(), told.workers.len()), ("Running", 0, 2));

        job.state.phase = Phase::Failed;
        job.last_error = Some("it has lost its way".to_owned());
        let told = as_recorded(&job.record());
        assert_eq!((told.has_failed(), told.attempts, told.retries), (true, 2, 5));
        assert_eq!(told.last_error, job.last_error);
        assert!(told.workers.is_empty());
    }
}
