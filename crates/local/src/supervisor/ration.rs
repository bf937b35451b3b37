//! The queue of this machine: which jobs may start, and who makes room.
//!
//! What is decided is `trainyard-queue`'s affair, here as in a cluster. Services are never asked:
//! what their replicas take is gone before a job is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use trainyard_api::queue::QueueUse;
use trainyard_control::job::{Because, Phase, Reason};
use trainyard_plan::{Resources, Target, compile_job, with_workers};
use trainyard_queue::{
    Admission, Amounts, Assignment, Decision, Eviction, Grant, Growth, Machine, Resize, Snapshot,
    Used, Waiting, Workload, queue_of,
};

use super::actor::Actor;
use super::job::{Job, millis};
use super::service::Service;
use super::steer::since_epoch;
use crate::history::{QueueRecord, Severity};
use crate::machine;
use crate::status::{JobAdmitted, JobWaiting, QueueStatus};
use crate::target::{DeclaredQueue, Resolved};

/// The queue of what names no other one, and its quota.
pub(super) const MACHINE: &str = "machine";
/// The quota of a declared queue for jobs that ask for no GPU, or name no pool.
pub(super) const DEFAULT: &str = "default";
/// Who runs longer than was declared changes when others start.
const DECIDE_AGAIN: Duration = Duration::from_secs(60);

/// What there is to ration, and what was decided last.
pub(super) struct Rations {
    /// Queues that were declared.
    pub(super) queues: BTreeMap<String, QueueRecord>,
    machine: Machine,
    decided: Option<(Snapshot, Duration)>,
    growth: Growth,
    used: BTreeMap<String, Used>,
}

/// What this machine has.
fn this_machine() -> Machine {
    let capacity = match machine::target() {
        Target::Local { cpu, memory, gpus } => {
            Amounts { cpu: cpu.0, memory: memory.0, gpu: gpus.into() }
        }
        Target::Kubernetes { .. } => Amounts::default(),
    };
    Machine { name: MACHINE.to_owned(), capacity }
}

impl Actor {
    /// Lets jobs in, says why others wait, and tells who has to make room, if something has changed.
    pub(super) async fn ration(&mut self) {
        if self.stopping {
            return;
        }
        let now = since_epoch();
        let snapshot = self.snapshot();
        let is_decided = self.rations.decided.as_ref().is_some_and(|(before, at)| {
            *before == snapshot
                && now.saturating_sub(*at) < DECIDE_AGAIN
                && self.rations.growth.look_again_at().is_none_or(|at| now < at)
        });
        if is_decided {
            return;
        }
        let mut decisions = self.rations.machine.decide(&snapshot, now);
        decisions.shrinks.extend(self.rations.growth.take_in(&snapshot, &decisions, now));
        self.rations.decided = Some((snapshot, now));
        self.rations.used = decisions.used;
        for (name, eviction) in decisions.evictions {
            self.make_room(&name, &eviction, now).await;
        }
        for (name, resize) in decisions.shrinks {
            self.resize(&name, resize, now).await;
        }
        for (name, decision) in decisions.pending {
            match decision {
                Decision::Admit(assignment) => self.admit(&name, assignment, now).await,
                Decision::Wait(waiting) => self.keep_waiting(&name, waiting).await,
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let queues = self.rations.queues.iter();
        let mut snapshot = Snapshot {
            queues: queues.map(|(name, queue)| (name.clone(), queue_of(&queue.spec))).collect(),
            workloads: BTreeMap::new(),
        };
        let has_queues = !snapshot.queues.is_empty();
        let jobs = self.jobs.values();
        let jobs = jobs.filter_map(|job| Some((job.name.clone(), job.workload(has_queues)?)));
        snapshot.workloads.extend(jobs);
        // No job that runs has a service's name.
        for service in self.services.values() {
            let takes = takes(service);
            if takes != Amounts::default() {
                snapshot.workloads.insert(service.name.clone(), of_service(takes));
            }
        }
        snapshot
    }

    /// Starts a job with what it was given.
    async fn admit(&mut self, name: &str, assignment: Assignment, now: Duration) {
        let free = self.free_gpus();
        let Some(job) = self.jobs.get_mut(name) else { return };
        let plan = with_workers(&job.declared.manifest, assignment.count);
        match compile_job(&plan, &machine::target()) {
            Ok(plan) => job.plan = Some(plan),
            Err(error) => {
                // It was compiled before, for a machine that had more.
                let problem = error.to_string();
                job.last_error = Some(problem.clone());
                job.stop = true;
                self.note(Severity::Warning, Some(name), name, "NotPlanned", &problem).await;
                return self.steer_job(name).await;
            }
        }
        let wanted = job.demand.gpus.saturating_mul(assignment.count);
        job.gpus = free.into_iter().take(wanted as usize).collect();
        let queue = job.queue(!self.rations.queues.is_empty()).to_owned();
        let is_news = job.waiting.take().is_some() || queue != MACHINE;
        let per_worker = job.per_worker();
        let given = Grant { queue, assignment, per_worker, since: now, resized: None };
        let message = given.to_string();
        job.given = Some(given);
        if is_news {
            self.note(Severity::Normal, Some(name), name, "Admitted", &message).await;
        }
        self.steer_job(name).await;
    }

    /// GPUs that are nobody's, the last first: services see all, and use the first.
    fn free_gpus(&self) -> Vec<String> {
        let taken: BTreeSet<&String> = self.jobs.values().flat_map(|job| &job.gpus).collect();
        let free = machine::gpus().iter().rev().filter(|gpu| !taken.contains(gpu));
        free.cloned().collect()
    }

    /// Remembers why a job waits, and tells it where that is news.
    async fn keep_waiting(&mut self, name: &str, waiting: Waiting) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let is_news = job.waiting.as_ref().is_none_or(|before| waiting.is_news_after(before));
        let (reason, needs_a_person) = (waiting.reason.as_str(), waiting.reason.needs_a_person());
        job.waiting = Some(waiting);
        let message = self.why_waits(name).unwrap_or_default();
        if is_news {
            let severity = if needs_a_person { Severity::Warning } else { Severity::Normal };
            self.note(severity, Some(name), name, reason, &message).await;
        }
        self.save_job(name).await;
    }

    /// Why a job waits, for people; none if it does not.
    pub(super) fn why_waits(&self, name: &str) -> Option<String> {
        let job = self.jobs.get(name)?;
        let waiting = job.waiting.as_ref()?;
        let starts_by = waiting.expected_start.and_then(date);
        let queue = job.queue(!self.rations.queues.is_empty());
        Some(waiting.sentence(queue, &self.rations.machine.why(&waiting.reason), starts_by))
    }

    /// Asks a job for a checkpoint and ends it, so that another one can start.
    async fn make_room(&mut self, name: &str, eviction: &Eviction, now: Duration) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let Eviction { for_whom, because } = eviction;
        job.preempted = Some(format!("it makes room for `{for_whom}`: {}", because.message()));
        let before = job.state;
        match before.phase {
            Phase::Running => {
                self.enter(name, before, before.preempted(), now).await;
                self.end_workers(name, true);
            }
            // Its workers were told to end already.
            Phase::Ending(Because::Resized) => {
                self.enter(name, before, before.preempted(), now).await;
            }
            // It has ended, and was about to start again.
            Phase::Waiting { .. } => {
                (job.given, job.state) = (None, before.stop_clock(now));
                job.gpus.clear();
            }
            _ => {}
        }
        self.steer_job(name).await;
    }

    /// Has a job go on with more or fewer workers: it is asked for a checkpoint and ended, and starts
    /// again as soon as the last of them has ended.
    async fn resize(&mut self, name: &str, resize: Resize, now: Duration) {
        let free = self.free_gpus();
        let Some(job) = self.jobs.get_mut(name) else { return };
        let Some(given) = &mut job.given else { return };
        let is_growth = resize.is_growth();
        if is_growth {
            // What it is to get is nobody else's from now on.
            given.resize(&resize, now);
            let more = resize.to.saturating_sub(resize.from).saturating_mul(job.demand.gpus);
            job.gpus.extend(free.into_iter().take(more as usize));
        }
        let message = format!("it goes {resize}");
        job.resize = Some(resize);
        let before = job.state;
        let after = if is_growth { before.grown() } else { before.shrunk() };
        match before.phase {
            Phase::Running => {
                self.enter(name, before, after, now).await;
                self.end_workers(name, true);
            }
            Phase::Ending(Because::Resized) => self.enter(name, before, after, now).await,
            // It has ended, and was about to start again.
            Phase::Waiting { .. } => {
                self.settle_size(name, now);
                let reason = if is_growth { Reason::Grown } else { Reason::Shrunk };
                self.note(Severity::Normal, Some(name), name, reason.as_str(), &message).await;
            }
            _ => {}
        }
        self.steer_job(name).await;
    }

    /// No worker of a job runs: from now on it is of another size, if that was decided.
    pub(super) fn settle_size(&mut self, name: &str, now: Duration) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let (Some(resize), Some(given)) = (job.resize.take(), &mut job.given) else { return };
        given.resize(&resize, now);
        let plan = with_workers(&job.declared.manifest, resize.to);
        match compile_job(&plan, &machine::target()) {
            Ok(plan) => job.plan = Some(plan),
            Err(error) => {
                // Of a larger number, or of the same, it was compiled before.
                job.last_error = Some(error.to_string());
                job.stop = true;
            }
        }
        job.gpus.truncate(job.demand.gpus.saturating_mul(resize.to) as usize);
    }

    /// Takes over what is declared of queues by files that were read. What stands in no file any more
    /// is none.
    pub(super) async fn declare_queues(&mut self, resolved: &Resolved) {
        let services = resolved.services.iter().map(|it| it.origin.path());
        let jobs = resolved.jobs.iter().map(|it| it.origin.path());
        let queues = resolved.queues.iter().map(|it| it.path.as_path());
        let read: BTreeSet<&Path> = services.chain(jobs).chain(queues).collect();
        let is_gone = |path: &Path| {
            let folder = path.parent();
            read.contains(path)
                || folder.is_some_and(|folder| resolved.folders.contains_key(folder))
                || !path.exists()
        };
        let before = self.rations.queues.clone();
        self.rations.queues.retain(|_, queue| !is_gone(&queue.path));
        for queue in &resolved.queues {
            let record =
                QueueRecord { spec: queue.manifest.spec.clone(), path: queue.path.clone() };
            self.rations.queues.insert(queue.name().to_owned(), record);
        }
        if self.rations.queues == before {
            return;
        }
        for name in before.keys().filter(|name| !self.rations.queues.contains_key(*name)) {
            tracing::info!(queue = name, "the queue is not declared any more");
        }
        self.writer.queues(self.rations.queues.clone()).await;
    }

    /// The queues for people: those that were declared, then the machine's own.
    pub(super) fn queues_status(&self) -> Vec<QueueStatus> {
        let Rations { queues, used, machine, decided, .. } = &self.rations;
        let mut all: BTreeMap<&str, QueueStatus> = BTreeMap::new();
        let declared =
            queues.iter().map(|(name, queue)| (name.as_str(), queue.spec.cohort.clone()));
        for (name, cohort) in declared.chain([(MACHINE, None)]) {
            let found = used.get(name);
            let status = QueueStatus {
                name: name.to_owned(),
                cohort,
                usage: found.map(usage).unwrap_or_default(),
                share: found.map_or(0, |used| used.share),
                ..QueueStatus::default()
            };
            all.insert(name, status);
        }
        let services = decided.iter().flat_map(|(snapshot, _)| &snapshot.workloads);
        let services = services.filter_map(|(name, _)| self.services.get(name));
        if let Some(of_machine) = all.get_mut(MACHINE) {
            of_machine.admitted.extend(services.map(admitted_service));
        }
        for job in self.jobs.values().filter(|job| !job.state.is_over()) {
            let name = match &job.given {
                Some(given) => given.queue.as_str(),
                None => job.queue(!queues.is_empty()),
            };
            // One that names a queue that is not there is shown where people look first.
            let name = if all.contains_key(name) { name } else { MACHINE };
            let Some(queue) = all.get_mut(name) else { continue };
            match (&job.given, &job.waiting) {
                (Some(given), _) => queue.admitted.push(admitted_job(job, given)),
                (None, Some(waiting)) => {
                    queue.waiting.push(waiting_job(job, waiting, machine.why(&waiting.reason)));
                }
                (None, None) => {}
            }
        }
        for queue in all.values_mut() {
            queue.waiting.sort_by(|a, b| {
                let created = |name: &String| self.jobs.get(name).map(|job| job.created_ms);
                let key = |it: &JobWaiting| (std::cmp::Reverse(it.priority), created(&it.job));
                key(a).cmp(&key(b)).then_with(|| a.job.cmp(&b.job))
            });
        }
        let of_machine = all.remove(MACHINE);
        all.into_values().chain(of_machine).collect()
    }
}

impl Rations {
    pub(super) fn new(queues: BTreeMap<String, QueueRecord>) -> Self {
        Self {
            queues,
            machine: this_machine(),
            decided: None,
            growth: Growth::default(),
            used: BTreeMap::new(),
        }
    }
}

/// What stands against these queues on one machine.
pub(super) fn refused_queues(resolved: &Resolved) -> Vec<String> {
    let wrong = resolved.queues.iter().filter(|queue| queue.name() == MACHINE);
    let problem = |queue: &DeclaredQueue| {
        format!(
            "the queue `{MACHINE}` in `{}` has the name of the machine's own queue; rename it",
            queue.path.display()
        )
    };
    wrong.map(problem).collect()
}

/// What the replicas of a service take, and those that it is about to have.
fn takes(service: &Service) -> Amounts {
    let asked = service.declared.manifest.spec.resources.as_ref();
    let gpu = asked.and_then(|asked| asked.gpu.as_ref());
    let has_gpus = !machine::gpus().is_empty();
    let mut takes = Amounts {
        // Its replicas share them: each sees all.
        gpu: gpu.filter(|_| has_gpus).map_or(0, |gpu| gpu.count.unwrap_or(1).into()),
        ..Amounts::default()
    };
    let mut add = |resources: &Resources, count: u32| {
        let amounts = Amounts {
            cpu: resources.cpu.map_or(0, |cpu| cpu.0),
            memory: resources.memory.map_or(0, |memory| memory.0),
            gpu: 0,
        };
        let amounts = amounts.times(count);
        takes.cpu = takes.cpu.saturating_add(amounts.cpu);
        takes.memory = takes.memory.saturating_add(amounts.memory);
    };
    let Some(running) = &service.running else {
        if service.leaving || !service.preparing {
            return Amounts::default();
        }
        let first = Resources {
            cpu: asked.and_then(|asked| asked.cpu),
            memory: asked.and_then(|asked| asked.memory),
            gpu: None,
        };
        add(&first, service.declared.manifest.spec.scaling.min.max(1));
        return takes;
    };
    let mut of_target = 0u32;
    for replica in running.replicas() {
        of_target = of_target.saturating_add(u32::from(replica.revision == running.target));
        if let Some(revision) = running.revisions.get(&replica.revision) {
            add(&revision.workload.resources, 1);
        }
    }
    if !service.leaving {
        add(&running.plan.workload.resources, running.wanted.saturating_sub(of_target));
    }
    takes
}

/// A service as those see it that wait: it was there first, and stays.
fn of_service(takes: Amounts) -> Workload {
    Workload {
        queue: MACHINE.to_owned(),
        priority: i32::MAX,
        per_worker: takes,
        count: 1,
        flavours: vec![MACHINE.to_owned()],
        admission: Some(Admission {
            flavour: MACHINE.to_owned(),
            count: 1,
            since: Duration::ZERO,
            ends_by: None,
            is_leaving: false,
            shrinks_to: None,
        }),
        ..Workload::default()
    }
}

fn usage(used: &Used) -> Vec<QueueUse> {
    let shown = used.flavours.iter().map(|it| QueueUse {
        pool: it.flavour.clone(),
        resource: it.resource.to_string().to_lowercase(),
        used: it.resource.show(it.used),
        nominal: it.resource.show(it.nominal),
        borrowed: it.resource.show(it.borrowed),
    });
    shown.collect()
}

fn admitted_service(service: &Service) -> JobAdmitted {
    let status = service.status();
    JobAdmitted {
        job: service.name.clone(),
        priority: 0,
        workers: u32::try_from(status.replicas.len()).unwrap_or(u32::MAX),
        pool: MACHINE.to_owned(),
        borrows: false,
        phase: "Serving".to_owned(),
        since_ms: status.replicas.iter().map(|it| it.since_ms).min().unwrap_or(0),
    }
}

fn admitted_job(job: &Job, given: &Grant) -> JobAdmitted {
    JobAdmitted {
        job: job.name.clone(),
        priority: job.demand.priority,
        workers: given.assignment.count,
        pool: given.assignment.flavour.clone(),
        borrows: given.assignment.borrows,
        phase: job.state.phase_name().to_owned(),
        since_ms: millis(given.since),
    }
}

fn waiting_job(job: &Job, waiting: &Waiting, message: String) -> JobWaiting {
    JobWaiting {
        job: job.name.clone(),
        priority: job.demand.priority,
        workers: job.demand.workers,
        reason: waiting.reason.as_str().to_owned(),
        message,
        behind: waiting.behind.clone(),
        ahead: waiting.ahead,
        expected_start_ms: waiting.expected_start.map(millis),
    }
}

/// A moment since the Unix epoch as RFC 3339 in whole seconds.
fn date(since_epoch: Duration) -> Option<String> {
    let seconds = i64::try_from(since_epoch.as_secs()).ok()?;
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}
