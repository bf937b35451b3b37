//! Jobs: from what is declared to agents that run, and to what came of them.

use std::sync::Arc;
use std::time::Duration;

use trainyard_control::job::{Because, Failure, Order, Phase, Reason, State, Worker, decide};
use trainyard_plan::{Address, EnvVar, JobPlan, Program, Value, compile_job, with_workers};
use trainyard_queue::{Assignment, Grant};

use super::actor::Actor;
use super::check::address;
use super::job::{Held, Job};
use super::ration::MACHINE;
use super::steer::since_epoch;
use crate::history::{JobRecord, Severity};
use crate::job::{self, Event, Key, Slot, Stops, free_ports, report_file, worker_id};
use crate::machine;
use crate::replica::{Process, Start};
use crate::target::DeclaredJob;

/// The interface by which workers of one machine talk.
const LOOPBACK: &str = "lo";
const HOST: &str = "127.0.0.1";
/// A program that is asked for no checkpoint gets this from its agent.
const NO_GRACE: Duration = Duration::from_secs(10);

impl Actor {
    /// What stands against running these jobs.
    pub(super) fn refused_jobs(&self, declared: &[DeclaredJob], by_person: bool) -> Vec<String> {
        let against = declared.iter().filter_map(|new| {
            let name = new.name();
            if self.services.contains_key(name) {
                return Some(format!(
                    "`{name}` is the name of a service that runs; rename the job, or take the service down with `trainyard down {name}`"
                ));
            }
            let old = self.jobs.get(name).filter(|old| !old.state.is_over() && by_person)?;
            let is_same = old.declared.manifest.spec == new.manifest.spec;
            (!is_same).then(|| {
                format!(
                    "the job `{name}` runs, and `{}` says something else of it; wait for its end, or end it with `trainyard down {name}`",
                    new.origin.path().display()
                )
            })
        });
        against.collect()
    }

    /// Names of services that a job has.
    pub(super) fn names_of_jobs<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let taken = names.filter(|name| self.jobs.get(*name).is_some_and(|it| !it.state.is_over()));
        let problem = |name: &str| {
            format!(
                "`{name}` is the name of a job that runs; rename the service, or end the job with `trainyard down {name}`"
            )
        };
        taken.map(problem).collect()
    }

    /// Begins a run of a job, unless it runs. One that is over is run again only if a person says so.
    pub(super) async fn declare_job(&mut self, declared: DeclaredJob, by_person: bool) {
        let name = declared.name().to_owned();
        let old = self.jobs.get(&name);
        let run = old.map_or(0, |old| old.run).max(self.known_run(&name)).saturating_add(1);
        if old.is_some_and(|old| !old.state.is_over() || !by_person) {
            return;
        }
        let plan = match compile_job(&declared.manifest, &machine::target()) {
            Ok(plan) => plan,
            Err(error) => {
                let problem = error.to_string();
                let note = self.note(Severity::Warning, Some(&name), &name, "NotPlanned", &problem);
                return note.await;
            }
        };
        // Of those that are declared in one moment the first is the first in line.
        let latest = self.jobs.values().map(|job| job.created_ms).max().unwrap_or(0);
        let latest = Duration::from_millis(u64::try_from(latest).unwrap_or(0));
        let now = since_epoch().max(latest.saturating_add(Duration::from_millis(1)));
        self.jobs.insert(name.clone(), Job::new(declared, plan, run, now));
        self.run_numbers.insert(name.clone(), run);
        self.steer_job(&name).await;
        self.check_data(&name);
    }

    /// The highest run of that name, also of a job that was taken off the list.
    fn known_run(&self, name: &str) -> u32 {
        self.run_numbers.get(name).copied().unwrap_or(0)
    }

    pub(super) async fn steer_jobs(&mut self) {
        let names: Vec<String> = self.jobs.keys().cloned().collect();
        for name in names {
            self.steer_job(&name).await;
        }
    }

    /// Decides what a job does next, and orders it: what was decided is saved before it is done.
    pub(super) async fn steer_job(&mut self, name: &str) {
        loop {
            let Some(job) = self.jobs.get_mut(name) else { return };
            let workers: Vec<Worker> = job.workers.iter().map(|held| held.worker).collect();
            let (before, now) = (job.state, since_epoch());
            let (state, order) = decide(&before, &job.policy(), &workers, job.stop, now);
            if state == before && order == Order::Nothing {
                break;
            }
            // Its queue says when.
            if order == Order::Start && job.given.is_none() {
                break;
            }
            self.enter(name, before, state, now).await;
            match order {
                Order::Nothing => {}
                Order::Start => self.start_job(name).await,
                Order::End { checkpoint } => self.end_workers(name, checkpoint),
            }
            if state == before {
                break;
            }
        }
        self.save_job(name).await;
        self.forget_job(name).await;
    }

    /// A job changes its state: it is told, and what has ended is written down.
    pub(super) async fn enter(&mut self, name: &str, before: State, after: State, now: Duration) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let had_ended = matches!(before.phase, Phase::Running | Phase::Ending(_))
            && !matches!(after.phase, Phase::Running | Phase::Ending(_));
        let first = job.workers.iter().find(|held| matches!(held.worker, Worker::Failed(_)));
        let problem = first.and_then(|held| held.message.clone());
        if had_ended {
            let message = problem.clone().unwrap_or_else(|| after.reason.as_str().to_owned());
            let reason = match before.phase {
                Phase::Ending(because) => because_name(because),
                _ => after.reason.as_str(),
            };
            job.attempt_ended(reason, message, now);
        }
        job.state = after;
        let was_pushed_out = matches!(before.phase, Phase::Ending(Because::Preempted))
            && matches!(after.phase, Phase::Waiting { .. });
        if was_pushed_out || after.is_over() {
            (job.given, job.resize) = (None, None);
            job.gpus.clear();
        }
        if after.is_over() {
            job.waiting = None;
        }
        if after.phase == Phase::Succeeded {
            job.last_error = None;
        } else if had_ended && problem.is_some() {
            job.last_error = problem;
        }
        let (severity, message) = told(job, &after, now);
        if before.reason != after.reason || before.attempts != after.attempts {
            self.note(severity, Some(name), name, after.reason.as_str(), &message).await;
        }
        if had_ended {
            self.settle_size(name, now);
        }
    }

    pub(super) async fn save_job(&mut self, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let record = job.record();
        if job.saved.as_ref() != Some(&record) {
            job.saved = Some(record.clone());
            self.writer.job(record).await;
        }
    }

    /// Takes a job off the list, if that is wanted and it is over; tells who waits for its end.
    async fn forget_job(&mut self, name: &str) {
        let Some(job) = self.jobs.get(name).filter(|job| job.state.is_over()) else { return };
        if job.forget {
            self.jobs.remove(name);
        }
        self.answer_downs();
    }

    /// Starts all workers of the next attempt.
    async fn start_job(&mut self, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let Some(plan) = job.plan.clone() else { return };
        let ports = match free_ports(plan.workers) {
            Ok(ports) => ports,
            Err(error) => {
                // Nothing is left of ports or descriptors, which may pass.
                let message = format!("no ports for its workers: {error}");
                let mut held = Held::new(Worker::Failed(Failure::Crashed), None);
                held.message = Some(message);
                job.workers = vec![held];
                return;
            }
        };
        let addresses = ports.into_iter().map(|port| Address { host: HOST.to_owned(), port });
        let gang = plan.gang(job.state.attempts, addresses.collect(), Some(LOOPBACK.to_owned()));
        job.workers = (0..plan.workers).map(|_| Held::new(Worker::Running, None)).collect();
        // Before the first of them starts: a supervisor that comes after this one ends what it does
        // not find written down, and starts the attempt anew.
        self.save_job(name).await;
        for index in 0..plan.workers {
            let Some(job) = self.jobs.get(name) else { return };
            let slot = self.slot(job, &plan, &gang, index);
            self.spawn_worker(name, slot, Start::Launch);
        }
    }

    fn slot(&self, job: &Job, plan: &JobPlan, gang: &trainyard_plan::Gang, index: u32) -> Slot {
        let id = worker_id(&job.name, job.run, index);
        let run = self.shared.state.run();
        let heartbeat = run.join(format!("{id}.heartbeat"));
        let stores = plan.checkpoint.as_ref().is_some_and(|it| it.uri.is_some());
        let mut flags = vec![
            "--report".to_owned(),
            report_file(&run, &id).display().to_string(),
            "--heartbeat-file".to_owned(),
            heartbeat.display().to_string(),
            "--metrics".to_owned(),
            format!("{HOST}:0"),
        ];
        if stores {
            // Workers of one machine write to one folder, from which the first of them saves.
            flags.push("--checkpoint-shared".to_owned());
        }
        for set in &plan.data {
            let uri = address(job, &set.uri);
            flags.extend(["--data".to_owned(), format!("{}={uri}", set.name)]);
            if let Some(sha256) = &set.sha256 {
                flags.extend(["--data-sha256".to_owned(), format!("{}={sha256}", set.name)]);
            }
        }
        let (args, mut env): (Vec<Value>, Vec<EnvVar>) =
            plan.agent(gang, Some(index), flags.iter().map(Value::literal).collect());
        // The manifest's own comes later, and wins.
        let of_worker = job.gpus.len() / (plan.workers.max(1) as usize);
        if let Some(gpus) = job.gpus.chunks(of_worker.max(1)).nth(index as usize) {
            let value = Value::literal(gpus.join(","));
            env.insert(0, EnvVar { name: machine::VISIBLE_GPUS.to_owned(), value });
        }
        Slot {
            id: id.into(),
            job: job.name.as_str().into(),
            index,
            attempt: job.state.attempts,
            program: Program::Trainyard { image: None },
            args,
            env,
            resources: plan.resources.clone(),
            folder: job.declared.folder.clone(),
            grace: grace(plan),
        }
    }

    fn spawn_worker(&mut self, name: &str, slot: Slot, start: Start) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let Some(held) = job.workers.get_mut(slot.index as usize) else { return };
        held.stops = Stops::default();
        let key =
            Key { job: Arc::from(name), run: job.run, attempt: slot.attempt, index: slot.index };
        let (shared, tell) = (self.shared.clone(), self.tell_of_jobs.clone());
        let (stops, hurry) = (held.stops.clone(), self.hurry.clone());
        self.replicas.spawn(job::run(key, slot, start, shared, tell, stops, hurry));
    }

    pub(super) fn end_workers(&mut self, name: &str, checkpoint: bool) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        for held in job.workers.iter().filter(|held| held.worker == Worker::Running) {
            match checkpoint {
                true => held.stops.save.cancel(),
                false => held.stops.now.cancel(),
            }
        }
    }

    pub(super) async fn on_job_event(&mut self, key: Key, event: Event) {
        let name = key.job.to_string();
        let Some(job) = self.jobs.get_mut(&name) else { return };
        if (job.run, job.state.attempts) != (key.run, key.attempt) {
            return;
        }
        let Some(held) = job.workers.get_mut(key.index as usize) else { return };
        let id = worker_id(&name, key.run, key.index);
        match event {
            Event::Started { run, adopted, notes } => {
                let pid = run.identity.pid;
                held.run = Some(run);
                self.save_job(&name).await;
                let (reason, message) = match adopted {
                    false => ("Started", format!("attempt {}, pid {pid}", key.attempt)),
                    true => ("Adopted", format!("pid {pid} goes on from an earlier supervisor")),
                };
                self.note(Severity::Normal, Some(&name), &id, reason, &message).await;
                for note in notes {
                    self.note(Severity::Warning, Some(&name), &id, "NotAsAsked", &note).await;
                }
            }
            Event::Reported(report) => {
                let notice = report.notice.clone();
                let is_new = notice.is_some()
                    && held.report.as_ref().is_none_or(|before| before.notice != notice);
                job.reported(key.index, *report);
                if let Some(notice) = notice.filter(|_| is_new) {
                    let text = notice.to_string();
                    self.note(Severity::Warning, Some(&name), &id, "InterruptionNotice", &text)
                        .await;
                }
            }
            Event::Ended { outcome, message, report } => {
                held.worker = outcome;
                held.since = std::time::SystemTime::now();
                held.run = None;
                held.message = Some(message.clone());
                if let Some(report) = report {
                    job.reported(key.index, *report);
                }
                let (severity, reason) = match outcome {
                    Worker::Finished | Worker::Running => (Severity::Normal, "Finished"),
                    Worker::Interrupted => (Severity::Normal, "Interrupted"),
                    Worker::Failed(failure) => (Severity::Warning, failure_name(failure)),
                };
                self.note(severity, Some(&name), &id, reason, &message).await;
                self.steer_job(&name).await;
            }
        }
    }

    /// Ends a job, with a checkpoint.
    pub(super) async fn stop_job(&mut self, name: &str, forget: bool) {
        if let Some(job) = self.jobs.get_mut(name) {
            job.stop = true;
            // A person who takes down what is over wants it off the list.
            job.forget |= forget || job.state.is_over();
            self.steer_job(name).await;
        }
    }

    pub(super) async fn stop_jobs(&mut self) {
        let names = self.jobs.iter().filter(|(_, job)| !job.state.is_over());
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.stop_job(&name, false).await;
        }
    }

    /// Whether no job runs, or will.
    pub(super) fn jobs_are_over(&self) -> bool {
        self.jobs.values().all(|job| job.state.is_over())
    }

    /// When a job has to be looked at though nothing has happened.
    pub(super) fn next_job_at(&self) -> Option<Duration> {
        let jobs = self.jobs.values().filter(|job| !job.is_queued());
        jobs.filter_map(|job| job.state.look_again_at(&job.policy())).min()
    }

    /// Takes over the newest run of a job. Gives the runs of the agents that go on.
    pub(super) async fn adopt_job(&mut self, record: JobRecord) -> Vec<u64> {
        let name = record.name.clone();
        self.run_numbers.insert(name.clone(), record.run);
        if record.forgotten {
            return Vec::new();
        }
        let given = record.given.as_ref().map(|given| given.assignment.count);
        let manifest = match given {
            Some(count) => with_workers(&record.manifest, count),
            None => record.manifest.clone(),
        };
        let plan = compile_job(&manifest, &machine::target());
        let mut job = Job::of_record(&record, plan.as_ref().ok().cloned());
        if job.state.is_over() {
            self.jobs.insert(name, job);
            return Vec::new();
        }
        let Ok(plan) = plan else {
            // A machine with less memory, or a newer program with stricter rules.
            let problem = plan.err().map(|error| error.to_string()).unwrap_or_default();
            job.stop = true;
            job.last_error = Some(problem.clone());
            self.jobs.insert(name.clone(), job);
            self.note(Severity::Warning, Some(&name), &name, "NotTakenOver", &problem).await;
            self.steer_job(&name).await;
            return Vec::new();
        };
        if job.given.is_none() && !job.is_queued() {
            // An older program started it, and asked nobody.
            job.given = Some(Grant {
                queue: MACHINE.to_owned(),
                assignment: Assignment {
                    flavour: MACHINE.to_owned(),
                    count: job.demand.workers,
                    borrows: false,
                },
                per_worker: job.per_worker(),
                since: job.state.started.unwrap_or_default(),
                resized: None,
            });
        }
        let mut adopted = Vec::new();
        let mut starts = Vec::new();
        for worker in &record.workers {
            // One that was never started, or was not written down, is no fault of the program.
            let mut held = Held::new(Worker::Interrupted, None);
            if let Some(run) = &worker.run {
                match Process::adopt(run.identity.clone()) {
                    Ok(process) => {
                        held = Held::new(Worker::Running, Some(run.clone()));
                        adopted.push(run.number);
                        starts.push((worker.index, Start::Adopt { process, run: run.clone() }));
                    }
                    Err(_) => {
                        held = self.ended_unseen(&record, worker.index);
                    }
                }
            }
            job.workers.push(held);
        }
        self.jobs.insert(name.clone(), job);
        for (index, start) in starts {
            // It has all that it needs; the gang is for those that are started.
            let Some(job) = self.jobs.get(&name) else { break };
            let gang = plan.gang(job.state.attempts, Vec::new(), None);
            let slot = self.slot(job, &plan, &gang, index);
            self.spawn_worker(&name, slot, start);
        }
        self.steer_job(&name).await;
        self.check_data(&name);
        adopted
    }

    /// A worker that ended while no supervisor ran: its agent has written down how.
    fn ended_unseen(&self, record: &JobRecord, index: u32) -> Held {
        let id = worker_id(&record.name, record.run, index);
        let report =
            trainyard_agent::run::Report::read(&report_file(&self.shared.state.run(), &id))
                .filter(|report| report.attempt == record.state.attempts);
        let mut held = Held::new(Worker::Interrupted, None);
        match report.as_ref().and_then(|report| report.ended.as_ref()) {
            Some(ended) => {
                held.worker = job::outcome(ended.cause);
                held.message = Some(ended.message.clone());
            }
            None => held.message = Some("it was gone when the supervisor came back".to_owned()),
        }
        held.report = report;
        held
    }

    /// Goes on with the workers that it had let go of.
    pub(super) async fn adopt_jobs_again(&mut self) {
        let names = self.jobs.iter().filter(|(_, job)| !job.state.is_over());
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(job) = self.jobs.remove(&name) {
                let record = job.record();
                self.adopt_job(record).await;
            }
        }
    }
}

/// How long a program may take for a checkpoint and its end.
fn grace(plan: &JobPlan) -> Duration {
    plan.checkpoint.as_ref().map_or(NO_GRACE, |checkpoint| checkpoint.grace)
}

/// What people are told of a state.
fn told(job: &Job, state: &State, now: Duration) -> (Severity, String) {
    let of_retries =
        || format!("failure {} of {}", state.failures, job.policy().retries.saturating_add(1));
    match state.reason {
        Reason::Declared => (Severity::Normal, format!("run {}", job.run)),
        Reason::Started => {
            let workers = job.plan.as_ref().map_or(0, |plan| plan.workers);
            (Severity::Normal, format!("attempt {}, {workers} workers", state.attempts))
        }
        Reason::Finished => (Severity::Normal, "all workers have finished".to_owned()),
        Reason::WorkerFailed => {
            (Severity::Warning, "a worker failed, so the others are ended".to_owned())
        }
        Reason::WorkerInterrupted => {
            (Severity::Normal, "a worker was interrupted, so the others are ended".to_owned())
        }
        Reason::BackOff => {
            let wait = match state.phase {
                Phase::Waiting { until } => until.saturating_sub(now),
                _ => Duration::ZERO,
            };
            let seconds = wait.as_secs().max(1);
            (Severity::Normal, format!("{}; it starts again in {seconds} s", of_retries()))
        }
        Reason::RetriesExhausted => {
            (Severity::Warning, format!("{}: it is given up", of_retries()))
        }
        Reason::CannotStart => {
            (Severity::Warning, "it cannot be started, and is not tried again".to_owned())
        }
        Reason::DeadlineExceeded => {
            (Severity::Warning, "it has taken longer than its deadline".to_owned())
        }
        Reason::Stopped => (Severity::Normal, "it is ended, as asked".to_owned()),
        Reason::Grown | Reason::Shrunk => {
            let why = job.resize.as_ref().map(|resize| format!("it goes {resize}"));
            (Severity::Normal, why.unwrap_or_else(|| "its workers start again".to_owned()))
        }
        Reason::Preempted => {
            let why = job.preempted.clone();
            (Severity::Normal, why.unwrap_or_else(|| "it makes room for another job".to_owned()))
        }
        // Of clusters: here a changed job is another run, and all workers fit the machine.
        Reason::Resumed | Reason::WorkersMissing | Reason::SpecChanged => {
            (Severity::Normal, "its workers start again".to_owned())
        }
    }
}

fn failure_name(failure: Failure) -> &'static str {
    match failure {
        Failure::Crashed => "Crashed",
        Failure::OutOfMemory => "OutOfMemory",
        Failure::Hung => "Hung",
        Failure::NotStarted => "NotStarted",
    }
}

fn because_name(because: Because) -> &'static str {
    match because {
        Because::Failure(failure) => failure_name(failure),
        Because::Interruption | Because::Incomplete => "Interrupted",
        Because::Changed => "SpecChanged",
        Because::Deadline => "DeadlineExceeded",
        Because::Asked => "Stopped",
        Because::Preempted => "Preempted",
        Because::Resized => "Resized",
    }
}
