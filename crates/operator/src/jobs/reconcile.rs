//! One job brought to what its spec asks for.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use trainyard_api::TrainingJob;
use trainyard_api::defaults::complete_job;
use trainyard_api::training_job::TrainingJobStatus;
use trainyard_control::job::{Because, Phase, Policy, Reason as Cause, State, decide};
use trainyard_plan::kubernetes::{JobRun, job_name, job_objects};
use trainyard_plan::{JobPlan, Target, compile_job};

use super::memory::{Given, Memory, revision};
use super::observe::{Attempt, Seen, Silent, observe};
use super::secret::secret;
use super::status;
use super::workload::{per_worker, workload};
use crate::cluster::{CallError, Chain};
use crate::desired::{owner, problems, wanted};
use crate::key::ResourceKey;
use crate::kinds::{self, KindIndex};
use crate::pods::{PodFacts, Reason, Trouble, of_create_failure, of_event};
use crate::queue::Ended;
use crate::queues::Told;
use crate::reconcile::{Ctx, NAME_CONFLICT_PAUSE, ensure, tell_unreadable};
use crate::rollout::sooner;
use crate::status::{News, Problem, are_there};
use crate::world::{Child, Entry, JobFacts, Resource, Source, strip};

/// Some workers may wait so long for others that cannot start; they hold what others could use.
const HALF_GANG: i64 = 300;
/// When warnings about a worker that does not start are read first, and between two looks.
const FIRST_LOOK: i64 = 10;
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Brings one job to what its spec asks for, and writes what came of it into its status.
///
/// Safe to stop at any await and to run again: what was decided is written down before it is done,
/// and a start has a Job of its own name, which is made at most once.
pub(crate) async fn reconcile(ctx: &Ctx, key: &ResourceKey) -> Result<Ended, CallError> {
    let _visit = ctx.world.visit(key);
    let entry = ctx.world.entry(key).unwrap_or_default();
    let Some(Resource { content, .. }) = &entry.resource else {
        ctx.queues.put(key, None);
        return Ok(Ended::Settled);
    };
    let job: Result<TrainingJob, String> = match content {
        Ok(packed) => packed.unpack().map_err(|error| error.to_string()),
        Err(invalid) => Err(invalid.error.clone()),
    };
    match job {
        // Its objects go with it: the cluster's garbage collector follows their owner references.
        Ok(job) if job.metadata.deletion_timestamp.is_some() => {
            ctx.queues.put(key, None);
            Ok(Ended::Settled)
        }
        Ok(job) => bring_about(ctx, key, &job, entry).await,
        Err(error) => {
            ctx.queues.keep(key);
            tell_unreadable(ctx, key, &error).await
        }
    }
}

async fn bring_about(
    ctx: &Ctx,
    key: &ResourceKey,
    job: &TrainingJob,
    entry: Entry,
) -> Result<Ended, CallError> {
    let Some(kind) = kinds::index_of("batch/v1", "Job") else { return Ok(Ended::Settled) };
    let now = Timestamp::now();
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let stored = job.status.as_ref().and_then(|status| status.memory.as_deref());
    let mut memory = match stored.map(Memory::parse) {
        None => Memory::new(since_epoch),
        Some(Ok(memory)) => memory,
        Some(Err(error)) => {
            let message = format!(
                "`status.memory` cannot be read, so that nobody knows what was started: {error}; delete the job and apply it again"
            );
            ctx.queues.keep(key);
            tracing::error!(error, "the status of the job was changed by somebody else");
            return tell_unreadable(ctx, key, &message).await;
        }
    };
    let spec = complete_job(&job.spec);
    let policy = Policy { retries: spec.retries, deadline: spec.deadline };
    let told = ctx.queues.told(key);
    let given = memory.given.as_ref().map(|given| &given.assignment).or(told.granted.as_ref());
    let plan = plan(ctx, key, job, given.map(|given| given.count));
    let turn = spec.queue.as_deref().map(|name| Turn { name, told });
    let course = Course { job, kind, plan: plan.as_ref(), policy, stop: spec.is_suspended, turn };
    let (seen, news) = course.decide(&mut memory, &entry, key, since_epoch);

    let queue = spec.queue.as_deref();
    let teller = Teller { ctx, key, job, memory: &mut memory, retries: spec.retries, queue };
    let mut problem = plan.as_ref().err().filter(|_| !teller.memory.state.is_over()).cloned();
    let notes = plan.as_ref().map(|plan| plan.notes.as_slice()).unwrap_or_default();
    // Before it is done: a later operator goes on from there.
    let known = teller.job.status.as_ref().and_then(|status| status.memory.clone());
    let mut told = job.status.clone();
    if known.as_deref() != Some(&teller.memory.to_text()) {
        let written = teller.tell(told.as_ref(), &seen, problem.as_ref(), None, notes).await?;
        let Some(written) = written else { return Ok(Ended::Settled) };
        told = Some(written);
    }
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    for news in news {
        ctx.announcer.announce(key, uid, news);
    }
    ctx.queues.put(key, workload(job, &spec, plan.as_ref().ok(), teller.memory, &policy));

    let mut applied = Ok(());
    match act(ctx, key, job, (&entry, kind), teller.memory, plan.as_ref().ok()).await {
        Ok(found) => problem = problem.or(found),
        Err(CallError::Gone { what }) => {
            tracing::debug!(what, "nothing to reconcile any more");
            return Ok(Ended::Settled);
        }
        Err(CallError::Rejected { what, reason }) => {
            let message = format!("the API server refuses to {what}: {reason}");
            problem = Some(Problem { reason: Reason::ApplyRejected, message });
            applied = Err(CallError::Rejected { what, reason });
        }
        Err(error) => return Err(error),
    }
    // What was applied just now is seen already.
    let entry = ctx.world.entry(key).unwrap_or_default();
    if teller.memory.state.phase == Phase::Running && teller.memory.made.is_none() {
        let name = job_name(&key.name, JobRun::Attempt(teller.memory.state.attempts));
        teller.memory.made = entry.child(kind, &name).map(|child| child.uid.to_string());
    }
    let (said, looked) = look(ctx, key, &seen, now.as_second(), teller.memory).await;
    let trouble = seen.trouble.clone().or(said);
    let before = told;
    let told =
        teller.tell(before.as_ref(), &seen, problem.as_ref(), trouble.as_ref(), notes).await?;
    if let Some(news) = told.as_ref().and_then(|told| status::trouble(job.status.as_ref(), told)) {
        ctx.announcer.announce(key, uid, news);
    }
    applied?;
    let is_taken = problem.is_some_and(|found| found.reason == Reason::NameConflict);
    let pause = is_taken.then_some(NAME_CONFLICT_PAUSE);
    let state = memory.state;
    if let Some(left) = time_to_live(&state, spec.ttl_after_finished, since_epoch) {
        if left.is_zero() {
            ctx.calls.delete_resource(key, uid).await?;
            ctx.metrics.wrote(key.kind.kind(), "delete");
            return Ok(Ended::Settled);
        }
        return Ok(Ended::LookAgain(left));
    }
    let is_queued = spec.queue.is_some() && memory.given.is_none();
    let decided = match state.phase {
        // Its queue wakes it.
        Phase::Waiting { .. } if is_queued => state.deadline(&policy),
        _ => state.look_again_at(&policy),
    };
    let decided = decided.map(|at| at.saturating_sub(since_epoch));
    let half = seen.half_since.filter(|_| state.phase == Phase::Running).map(|since| {
        let left = since.saturating_add(HALF_GANG).saturating_sub(now.as_second());
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    });
    let again = [pause, looked, decided, half].into_iter().fold(None, sooner);
    Ok(match again {
        // Times have whole seconds: what is due now was done.
        Some(delay) => Ended::LookAgain(delay.max(Duration::from_secs(1))),
        None => Ended::Settled,
    })
}

/// How long a job that is over stays; none for others, and for one that stays for ever.
fn time_to_live(state: &State, ttl: Option<Duration>, now: Duration) -> Option<Duration> {
    let is_over = matches!(state.phase, Phase::Succeeded | Phase::Failed);
    let ended = state.ended.filter(|_| is_over)?;
    Some(ended.saturating_add(ttl?).saturating_sub(now))
}

/// What its workers are made of: all that it asks for, or as many as its queue gave it.
fn plan(
    ctx: &Ctx,
    key: &ResourceKey,
    job: &TrainingJob,
    given: Option<u32>,
) -> Result<JobPlan, Problem> {
    let invalid = |message| Problem { reason: Reason::InvalidSpec, message };
    if let Some(message) = problems(key, None, &job.spec) {
        return Err(invalid(message));
    }
    if job.spec.queue.is_some() && !ctx.queues.is_served() {
        let message = "`spec.queue`: this operator knows no queues, since it acts in some namespaces only or the cluster has no definition of them; remove it, or have the operator installed for the whole cluster (`trainyard install`)";
        return Err(Problem { reason: Reason::NotSupported, message: message.to_owned() });
    }
    let mut job = job.clone();
    if let (Some(given), Some(workers)) = (given, &mut job.spec.workers) {
        workers.count = given.min(workers.count);
    }
    let target = Target::Kubernetes {
        image: ctx.cluster.objects.image.clone(),
        gpu_pools: ctx.cluster.gpu_pools.facts().as_ref().clone(),
    };
    compile_job(&job, &target).map_err(|error| invalid(error.to_string()))
}

/// What decisions are made from.
struct Course<'a> {
    job: &'a TrainingJob,
    kind: KindIndex,
    plan: Result<&'a JobPlan, &'a Problem>,
    policy: Policy,
    stop: bool,
    /// None for a job without a queue.
    turn: Option<Turn<'a>>,
}

/// What its queue has to say.
struct Turn<'a> {
    name: &'a str,
    told: Told,
}

impl Course<'_> {
    /// Decides until nothing changes any more. Returns what is seen of the last start, and what
    /// happened for people.
    fn decide(
        &self,
        memory: &mut Memory,
        entry: &Entry,
        key: &ResourceKey,
        now: Duration,
    ) -> (Seen, Vec<News>) {
        let mut news = Vec::new();
        let wanted = revision(&self.job.spec);
        if !memory.revision.is_empty() && memory.revision != wanted {
            self.step(memory, memory.state.replaced(now), &mut news);
            if !matches!(memory.state.phase, Phase::Succeeded | Phase::Ending(_)) {
                memory.revision.clone_from(&wanted);
                memory.last = None;
            }
            // It may ask for something else now.
            if matches!(memory.state.phase, Phase::Waiting { .. }) {
                memory.given = None;
            }
        }
        self.hear(memory, &mut news);
        if !self.stop {
            self.step(memory, memory.state.resumed(now), &mut news);
        }
        let pods: Vec<&PodFacts> = entry.pods().collect();
        loop {
            let child = made(memory, entry, self.kind, key);
            let seen = observe(&Attempt {
                number: memory.state.attempts,
                workers: memory.workers,
                is_made: memory.made.is_some(),
                job: child.and_then(|child| child.job.as_deref()),
                pods: &pods,
            });
            let (mut next, _) = decide(&memory.state, &self.policy, &seen.workers, self.stop, now);
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let is_half = seen.half_since.is_some_and(|since| seconds - since >= HALF_GANG);
            if next == memory.state && is_half {
                next = memory.state.given_up();
            }
            // Workers that were told to end have ended when their Job says so, too: it could make
            // more.
            let has_left = matches!(memory.state.phase, Phase::Ending(_))
                && !matches!(next.phase, Phase::Ending(_));
            let is_idle = child.and_then(|it| it.job.as_deref()).is_none_or(is_idle);
            if next == memory.state || has_left && !is_idle {
                return (seen, news);
            }
            if next.attempts > memory.state.attempts {
                let Ok(plan) = self.plan else { return (seen, news) };
                if !self.take_turn(memory, plan, now, &mut news) {
                    return (seen, news);
                }
                memory.workers = plan.workers;
                memory.revision.clone_from(&wanted);
                memory.made = None;
            } else if let (Phase::Ending(_), Some(end)) = (next.phase, &seen.end) {
                memory.last = Some(end.clone());
            }
            self.step(memory, next, &mut news);
        }
    }

    /// Takes in what its queue says: that it has to make room, or why it waits.
    fn hear(&self, memory: &mut Memory, news: &mut Vec<News>) {
        let Some(Turn { told, .. }) = &self.turn else {
            (memory.given, memory.waiting) = (None, None);
            return;
        };
        if let (Some(eviction), Some(_)) = (&told.eviction, &memory.given) {
            let because = eviction.because.message();
            let why = format!("makes room for `{}`: {because}", eviction.for_whom);
            match memory.state.phase {
                Phase::Running => {
                    memory.preempted = Some(why);
                    self.step(memory, memory.state.preempted(), news);
                }
                // It has ended, and was about to start again.
                Phase::Waiting { .. } => (memory.given, memory.preempted) = (None, Some(why)),
                _ => {}
            }
        }
        if told.waiting.is_some() && memory.given.is_none() {
            memory.waiting.clone_from(&told.waiting);
        }
    }

    /// Whether it may start: it has no queue, has been given what it asks for, or is now.
    fn take_turn(
        &self,
        memory: &mut Memory,
        plan: &JobPlan,
        now: Duration,
        news: &mut Vec<News>,
    ) -> bool {
        let Some(Turn { name, told }) = &self.turn else { return true };
        if memory.given.is_some() {
            return true;
        }
        let Some(assignment) = &told.granted else { return false };
        let given = Given {
            queue: (*name).to_owned(),
            assignment: assignment.clone(),
            per_worker: per_worker(plan),
            since: now,
        };
        news.push(status::admitted(&given));
        (memory.given, memory.waiting, memory.preempted) = (Some(given), None, None);
        true
    }

    fn step(&self, memory: &mut Memory, next: State, news: &mut Vec<News>) {
        let why = match next.reason {
            Cause::Preempted => memory.preempted.as_deref(),
            _ => memory.last.as_deref(),
        };
        news.extend(status::step(&memory.state, &next, why));
        let was_ended_for_good =
            matches!(memory.state.phase, Phase::Ending(Because::Preempted | Because::Changed))
                && matches!(next.phase, Phase::Waiting { .. });
        if was_ended_for_good || next.is_over() {
            memory.given = None;
        }
        if next.is_over() {
            memory.waiting = None;
        }
        memory.state = next;
    }
}

/// No pod of it runs, and none will be made.
fn is_idle(job: &JobFacts) -> bool {
    job.is_over() || job.is_suspended && job.active == 0
}

/// The Job of the last start, if it is the one that was made.
fn made<'a>(
    memory: &Memory,
    entry: &'a Entry,
    kind: KindIndex,
    key: &ResourceKey,
) -> Option<&'a Child> {
    let name = job_name(&key.name, JobRun::Attempt(memory.state.attempts));
    let child = entry.child(kind, &name)?;
    memory.made.as_ref().is_none_or(|uid| **uid == *child.uid).then_some(child)
}

/// Makes the Job of a start, ends that of one which is to end, and deletes those of earlier ones.
/// Returns what a person has to mend although all requests went well.
async fn act(
    ctx: &Ctx,
    key: &ResourceKey,
    job: &TrainingJob,
    (entry, kind): (&Entry, KindIndex),
    memory: &Memory,
    plan: Option<&JobPlan>,
) -> Result<Option<Problem>, CallError> {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let state = &memory.state;
    let child = made(memory, entry, kind, key);
    let facts = child.and_then(|child| child.job.as_deref());
    let mut problem = None;
    if let (Phase::Running, Some(plan)) = (state.phase, plan) {
        let not_supported = |message| Problem { reason: Reason::NotSupported, message };
        let run = JobRun::Attempt(state.attempts);
        let objects = match job_objects(plan, run, &ctx.cluster.objects) {
            Ok(objects) => objects,
            Err(error) => return Ok(Some(not_supported(error.to_string()))),
        };
        let owner = owner(key, Some(uid));
        for object in objects {
            let wanted = match wanted(key, &owner, object.into_value()) {
                Ok(wanted) => wanted,
                Err(message) => return Ok(Some(not_supported(message))),
            };
            // A Job cannot be changed, and one that is gone is a start that has ended.
            if wanted.kind == kind && (memory.made.is_some() || child.is_some()) {
                continue;
            }
            // Its pods wait for it. Once for each start, since nobody may look whether it is there.
            if let Some(name) = plan.secret.as_ref().filter(|_| wanted.kind == kind) {
                let secret = match secret(key, name, &owner) {
                    Ok(secret) => secret,
                    Err(message) => return Ok(Some(not_supported(message))),
                };
                if ctx.calls.create_secret(key, &secret).await? {
                    ctx.metrics.wrote("Secret", "create");
                }
            }
            if let Some(conflict) = ensure(ctx, key, uid, &wanted).await? {
                problem.get_or_insert(conflict);
                // Workers without their Service or account would only fail.
                break;
            }
        }
    }
    if let (Phase::Ending(_), Some(child), Some(facts)) = (state.phase, child, facts)
        && !facts.is_over()
        && !facts.asked_to_suspend
    {
        let named = (&*child.name, &*child.uid);
        match ctx.calls.suspend_job(key, kind, named).await {
            Ok(object) => {
                ctx.metrics.wrote("Job", "patch");
                if let Some(child) = Child::of(kind, key, &object) {
                    ctx.world.put_child(key.clone(), child, 0);
                }
            }
            Err(CallError::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // The one before stays, with the logs of its workers, as long as this one's.
    let kept = |child: &Child| {
        let named = |attempt: u32| *child.name == *job_name(&key.name, JobRun::Attempt(attempt));
        let is_over = child.job.as_deref().is_some_and(JobFacts::is_over);
        named(state.attempts) || is_over && state.attempts > 1 && named(state.attempts - 1)
    };
    for child in &entry.children {
        if child.kind != kind
            || child.is_ending
            || child.owner.as_deref() != Some(uid)
            || kept(child)
        {
            continue;
        }
        ctx.calls.delete(key, child.kind, &child.name, &child.uid).await?;
        ctx.metrics.wrote("Job", "delete");
        ctx.world.remove(key, Source::Children(kind), &child.name, child.resource_version);
    }
    Ok(problem)
}

/// Reads warnings about a worker that does not start and does not say why. Nothing watches events.
async fn look(
    ctx: &Ctx,
    key: &ResourceKey,
    seen: &Seen,
    now: i64,
    memory: &Memory,
) -> (Option<Trouble>, Option<Duration>) {
    let Some(silent) = seen.silent.as_ref().filter(|_| memory.state.phase == Phase::Running) else {
        return (None, None);
    };
    let since = match silent {
        Silent::Pod { created, .. } => *created,
        Silent::NoPod => {
            memory.state.started.map_or(now, |at| i64::try_from(at.as_secs()).unwrap_or(now))
        }
    };
    let wait = since.saturating_add(FIRST_LOOK).saturating_sub(now);
    if wait > 0 {
        return (None, Some(Duration::from_secs(u64::try_from(wait).unwrap_or(1))));
    }
    let job = job_name(&key.name, JobRun::Attempt(memory.state.attempts));
    let of = match silent {
        Silent::Pod { name, .. } => ("Pod", name.as_str()),
        Silent::NoPod => ("Job", job.as_str()),
    };
    // The status must not wait for what only adds to it.
    let warnings = ctx.calls.warnings(key, of).await.unwrap_or_else(|error| {
        tracing::debug!(error = %Chain(&error), "no warnings about a worker that does not start");
        Vec::new()
    });
    let said = warnings.iter().find_map(|(reason, note)| match silent {
        Silent::Pod { name, .. } => of_event(name, reason, note),
        Silent::NoPod => (reason == "FailedCreate").then(|| of_create_failure(note)),
    });
    (said, Some(LOOK_AGAIN))
}

/// Who writes the status of one job.
struct Teller<'a> {
    ctx: &'a Ctx,
    key: &'a ResourceKey,
    job: &'a TrainingJob,
    memory: &'a mut Memory,
    retries: u32,
    queue: Option<&'a str>,
}

impl Teller<'_> {
    /// Writes the status if it says something new. Returns it; none if the job is gone.
    async fn tell(
        &self,
        before: Option<&TrainingJobStatus>,
        seen: &Seen,
        problem: Option<&Problem>,
        trouble: Option<&Trouble>,
        notes: &[String],
    ) -> Result<Option<TrainingJobStatus>, CallError> {
        let status = status::decide(&status::Told {
            generation: self.job.metadata.generation,
            memory: self.memory,
            retries: self.retries,
            queue: self.queue,
            running: seen.running,
            problem,
            trouble,
            notes,
            before,
            now: Timestamp::now(),
        });
        let is_same = before.is_some_and(|before| {
            let rest =
                TrainingJobStatus { conditions: status.conditions.clone(), ..before.clone() };
            rest == status && are_there(&before.conditions, &status.conditions)
        });
        if is_same {
            return Ok(Some(status));
        }
        let uid = self.job.metadata.uid.as_deref().unwrap_or_default();
        match self.ctx.calls.apply_status::<TrainingJob>(self.key, uid, &status).await {
            Ok(mut written) => {
                self.ctx.metrics.wrote(self.key.kind.kind(), "status");
                strip(&mut written.metadata);
                self.ctx.world.settle_resource(self.key, written);
                Ok(Some(status))
            }
            Err(CallError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[test]
fn what_is_over_goes_after_its_time() {
    let now = Duration::from_secs(100);
    let mut state = State::new(now);
    let ttl = Some(Duration::from_secs(10));
    assert_eq!(time_to_live(&state, ttl, now), None);
    (state.phase, state.ended) = (Phase::Succeeded, Some(now));
    assert_eq!(time_to_live(&state, None, now), None);
    assert_eq!(time_to_live(&state, ttl, Duration::from_secs(104)), Some(Duration::from_secs(6)));
    assert_eq!(time_to_live(&state, ttl, Duration::from_secs(200)), Some(Duration::ZERO));
    // A person may let it go on.
    state.phase = Phase::Interrupted;
    assert_eq!(time_to_live(&state, ttl, Duration::from_secs(200)), None);
}
