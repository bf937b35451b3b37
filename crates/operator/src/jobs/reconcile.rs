//! One job brought to what its spec asks for.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use trainyard_api::TrainingJob;
use trainyard_api::defaults::{CompleteJob, complete_job};
use trainyard_api::training_job::TrainingJobStatus;
use trainyard_control::handover::choose;
use trainyard_control::job::{Because, Phase, Policy, Reason as Cause, State, decide};
use trainyard_plan::kubernetes::{JobRun, gang_object, job_name, job_objects, preflight_name};
use trainyard_plan::{JobPlan, QueueSystem, Target, compile_job};
use trainyard_queue::{Assignment, Resize, Why};

use super::hints;
use super::leftovers::is_left;
use super::memory::{Handed, Memory, Preflight, asked, revision};
use super::observe::{Attempt, HALF_GANG, Seen, Silent, observe};
use super::preflight::{self, Scene};
use super::quota;
use super::secret::secret;
use super::status;
use super::turn::{Start, Theirs, Turn, take_ours};
use super::workload::workload;
use crate::cluster::{CallError, Chain};
use crate::desired::{owner, problems, wanted};
use crate::key::ResourceKey;
use crate::kinds::{self, KindIndex};
use crate::pods::{PodFacts, Reason, Trouble, of_create_failure, of_event};
use crate::queue::Ended;
use crate::reconcile::{Ctx, NAME_CONFLICT_PAUSE, ensure, tell_unreadable};
use crate::rollout::sooner;
use crate::status::{News, Problem, are_there};
use crate::world::{Child, Entry, JobFacts, Resource, Source, strip};

/// Another system has made something of a Job within so long; else it is said that it has not.
const FIRST_WORD: Duration = Duration::from_secs(15);
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
        leave_queue(ctx, key, &entry);
        return Ok(Ended::Settled);
    };
    let job: Result<TrainingJob, String> = match content {
        Ok(packed) => packed.unpack().map_err(|error| error.to_string()),
        Err(invalid) => Err(invalid.error.clone()),
    };
    match job {
        // Its objects go with it: the cluster's garbage collector follows their owner references.
        Ok(job) if job.metadata.deletion_timestamp.is_some() => {
            leave_queue(ctx, key, &entry);
            Ok(Ended::Settled)
        }
        Ok(job) => bring_about(ctx, key, &job, entry).await,
        Err(error) => {
            ctx.queues.keep(key);
            tell_unreadable(ctx, key, &error).await
        }
    }
}

/// A job that is deleted gives its quota back once nobody uses it: its pods may write a checkpoint yet,
/// on GPUs that the next job would be given. Their end wakes us.
fn leave_queue(ctx: &Ctx, key: &ResourceKey, entry: &Entry) {
    let has_pods = entry.pods().any(|pod| pod.worker.is_some() && !pod.ended);
    let jobs = entry.children.iter().filter_map(|child| child.job.as_deref());
    // A Job that is not gone may make some.
    match has_pods || jobs.into_iter().any(|job| !is_idle(job)) {
        true => ctx.queues.leave(key, quota::left_behind(entry, None)),
        false => ctx.queues.leave_nothing(key),
    }
}

async fn bring_about(
    ctx: &Ctx,
    key: &ResourceKey,
    job: &TrainingJob,
    entry: Entry,
) -> Result<Ended, CallError> {
    let Some(kind) = kinds::index_of("batch/v1", "Job") else { return Ok(Ended::Settled) };
    ctx.queues.remain(key, quota::left_behind(&entry, job.metadata.uid.as_deref()));
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
    let turn = turn(ctx, key, job, &spec, &memory);
    let given = match &turn {
        Ok(Some(Turn::Ours { told, .. })) => {
            let given = memory.given.as_ref().map(|given| &given.assignment);
            let given = given.or(told.granted.as_ref()).map(|given| given.count);
            memory.resize.as_ref().map(|resize| resize.to).or(given)
        }
        _ => None,
    };
    let plan = match &turn {
        Ok(turn) => plan(ctx, key, job, given, turn.as_ref()),
        Err(problem) => Err(problem.clone()),
    };
    let turn = turn.ok().flatten();
    let last = start(ctx, key, &entry, kind, memory.state.attempts);
    let next = start(ctx, key, &entry, kind, memory.state.attempts.saturating_add(1));
    let is_theirs = matches!(turn, Some(Turn::Theirs(_)));
    let course =
        Course { job, plan: plan.as_ref(), policy, stop: spec.is_suspended, turn, last, next };
    let (seen, news) = course.decide(&mut memory, (&entry, kind), key, since_epoch);
    memory.note_leaving(&seen.leaving, since_epoch);
    let last = course.last.as_ref().filter(|it| it.attempt == memory.state.attempts);
    let is_held = last.is_some_and(Start::is_held);

    let queue = spec.queue.as_deref();
    let nowhere = match (queue, is_theirs) {
        (Some(name), false) => nowhere_else(ctx, key, name),
        _ => String::new(),
    };
    let teller =
        Teller { ctx, key, job, memory: &mut memory, retries: spec.retries, queue, nowhere };
    let mut problem = plan.as_ref().err().filter(|_| !teller.memory.state.is_over()).cloned();
    let mut notes = plan.as_ref().map(|plan| plan.notes.clone()).unwrap_or_default();
    notes.extend(last.and_then(Start::note));
    let notes = notes.as_slice();
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
    let is_ours = !is_theirs && teller.memory.handed.is_none();
    let wants = workload(job, &spec, plan.as_ref().ok(), teller.memory, &policy);
    ctx.queues.put(key, wants.filter(|_| is_ours));

    let mut applied = Ok(());
    let acting = Acting { entry: &entry, kind, is_theirs, is_held, plan: plan.as_ref().ok() };
    match act(ctx, key, job, &acting, teller.memory).await {
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
    let silent = memory.handed.as_ref().filter(|it| !it.is_let_in && it.waiting.is_none());
    let silent = silent.map(|it| it.since.saturating_add(FIRST_WORD));
    let silent = silent.filter(|at| *at > since_epoch).map(|at| at.saturating_sub(since_epoch));
    let is_held = is_queued || memory.look().is_some();
    let decided = match state.phase {
        // Its queue wakes it, or the pod that looks.
        Phase::Waiting { until } if is_held && until <= since_epoch => state.deadline(&policy),
        _ => state.look_again_at(&policy),
    };
    let decided = decided.map(|at| at.saturating_sub(since_epoch));
    let look_again = memory.look().and_then(|look| {
        let room = look.since.saturating_add(trainyard_control::preflight::ROOM);
        look.state.look_again_at().or(Some(room).filter(|at| *at > since_epoch))
    });
    let look_again = look_again.map(|at| at.saturating_sub(since_epoch));
    let half = seen.half_since.filter(|_| state.phase == Phase::Running).map(|since| {
        let since = Duration::from_secs(u64::try_from(since).unwrap_or(0));
        since.saturating_add(HALF_GANG).saturating_sub(since_epoch)
    });
    let lost = seen.lost_at.map(|at| {
        let left = at.saturating_sub(now.as_second()).max(0);
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    });
    let again =
        [pause, looked, decided, half, silent, look_again, lost].into_iter().fold(None, sooner);
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

/// Who says when its next workers may start; none for a job without a queue.
///
/// What was handed over stays where it is, and what has a quota of ours keeps that.
fn turn<'a>(
    ctx: &Ctx,
    key: &ResourceKey,
    job: &TrainingJob,
    spec: &'a CompleteJob,
    memory: &Memory,
) -> Result<Option<Turn<'a>>, Problem> {
    let Some(name) = spec.queue.as_deref() else { return Ok(None) };
    let is_asked =
        |system| spec.queued_by.is_none_or(|by| QueueSystem::asked_for(by) == Some(system));
    let handed = memory.handed.as_ref().filter(|it| it.queue == name && is_asked(it.system));
    let system = match (handed, &memory.given) {
        (Some(handed), _) => Some(handed.system),
        (None, Some(_)) => None,
        (None, None) => choose(spec.queued_by, &ctx.elsewhere.installed(&key.namespace, name))
            .map_err(|error| Problem {
                reason: Reason::NotSupported,
                message: format!("`spec.queuedBy`: {error}"),
            })?,
    };
    let Some(system) = system else {
        return Ok(Some(Turn::Ours { name, told: ctx.queues.told(key) }));
    };
    let is_kueue = system == QueueSystem::Kueue;
    let priority_class = ctx.elsewhere.priority_class(spec.priority).filter(|_| is_kueue);
    Ok(Some(Turn::Theirs(Theirs {
        system,
        queue: name,
        asked: asked(&job.spec, priority_class.as_deref()),
        priority_class,
        min_workers: (is_kueue && spec.min_workers < spec.workers).then_some(spec.min_workers),
    })))
}

/// The Job of a start, and what is said of it.
fn start<'a>(
    ctx: &Ctx,
    key: &ResourceKey,
    entry: &'a Entry,
    kind: KindIndex,
    attempt: u32,
) -> Option<Start<'a>> {
    let child = entry.child(kind, &job_name(&key.name, JobRun::Attempt(attempt)))?;
    let pods = || {
        entry.pods().filter(move |pod| pod.worker.as_ref().is_some_and(|it| it.attempt == attempt))
    };
    let is_placed = pods().any(|pod| pod.worker.as_ref().is_some_and(|it| it.is_placed));
    let trouble = pods().find_map(|pod| pod.trouble.as_ref());
    Some(Start {
        attempt,
        uid: &child.uid,
        job: child.job.as_deref()?,
        is_placed,
        trouble: trouble.map(|trouble| trouble.message(key.kind)),
        group: ctx.elsewhere.group(&key.namespace, &child.name, &child.uid),
    })
}

/// Where else a queue was looked for, for people.
fn nowhere_else(ctx: &Ctx, key: &ResourceKey, queue: &str) -> String {
    let all = ctx.elsewhere.installed(&key.namespace, queue);
    let without = all.iter().filter(|it| !it.has_queue).map(|it| match it.system {
        QueueSystem::Kueue => format!("Kueue has no LocalQueue `{queue}` in `{}`", key.namespace),
        other => format!("{} has no Queue `{queue}`", other.name()),
    });
    without.collect::<Vec<_>>().join(", ")
}

/// What its workers are made of: all that it asks for, or as many as its queue gave it.
fn plan(
    ctx: &Ctx,
    key: &ResourceKey,
    job: &TrainingJob,
    given: Option<u32>,
    turn: Option<&Turn<'_>>,
) -> Result<JobPlan, Problem> {
    let invalid = |message| Problem { reason: Reason::InvalidSpec, message };
    if let Some(message) = problems(key, None, &job.spec) {
        return Err(invalid(message));
    }
    if matches!(turn, Some(Turn::Ours { .. })) && !ctx.queues.is_served() {
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
    let mut plan = compile_job(&job, &target).map_err(|error| invalid(error.to_string()))?;
    plan.handover = match turn {
        Some(Turn::Theirs(theirs)) => Some(theirs.handover()),
        _ => None,
    };
    plan.notes.extend(job_notes(&job, turn));
    Ok(plan)
}

/// What a job says that who decides about it does not know.
fn job_notes(job: &TrainingJob, turn: Option<&Turn<'_>>) -> Option<String> {
    let Some(Turn::Theirs(theirs)) = turn else { return None };
    let name = theirs.system.name();
    let workers = job.spec.workers.as_ref();
    if theirs.system != QueueSystem::Kueue && workers.is_some_and(|it| it.min.is_some()) {
        return Some(format!("`spec.workers.min` has no effect, since {name} places all or none"));
    }
    let priority = job.spec.priority.filter(|_| theirs.priority_class.is_none())?;
    Some(match theirs.system {
        QueueSystem::Kueue => format!(
            "`spec.priority: {priority}` has no effect, since no WorkloadPriorityClass of Kueue has that value"
        ),
        _ => format!("`spec.priority` has no effect, since {name} goes by `spec.priorityClass`"),
    })
}

/// What decisions are made from.
struct Course<'a> {
    job: &'a TrainingJob,
    plan: Result<&'a JobPlan, &'a Problem>,
    policy: Policy,
    stop: bool,
    /// None for a job without a queue.
    turn: Option<Turn<'a>>,
    /// The Job of the last start, and that of the next one where it was handed over.
    last: Option<Start<'a>>,
    next: Option<Start<'a>>,
}

impl Course<'_> {
    /// Decides until nothing changes any more. Returns what is seen of the last start, and what
    /// happened for people.
    fn decide(
        &self,
        memory: &mut Memory,
        (entry, kind): (&Entry, KindIndex),
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
                memory.handed = None;
                if memory.given.take().is_some() {
                    memory.state = memory.state.stop_clock(now);
                }
            }
        }
        let is_waiting = matches!(memory.state.phase, Phase::Waiting { .. });
        if self.plan.is_err() && is_waiting {
            // What waits elsewhere could start, and is not what is asked for any more.
            memory.handed = None;
        }
        if self.plan.is_err() || self.stop || !is_waiting {
            preflight::give_up(memory);
        }
        self.hear(memory, now, &mut news);
        if !self.stop {
            self.step(memory, memory.state.resumed(now), &mut news);
        }
        let pods: Vec<&PodFacts> = entry.pods().collect();
        loop {
            let child = made(memory, entry, kind, key);
            let mut seen = observe(&Attempt {
                number: memory.state.attempts,
                workers: memory.workers,
                is_made: memory.made.is_some(),
                job: child.and_then(|child| child.job.as_deref()),
                pods: &pods,
                now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            });
            if seen.is_taken || entry.taken == Some(memory.state.attempts) {
                memory.state = memory.state.taken();
            }
            let looks = match (self.plan, memory.state.phase) {
                (Ok(plan), Phase::Waiting { .. }) if !self.stop => {
                    let scene = (&Scene { entry, kind, key }, wanted.as_str());
                    preflight::look_first(memory, (self.job, plan), scene, now, &mut news)
                }
                _ => None,
            };
            if memory.preflight.as_ref().is_some_and(Preflight::is_refused) && looks.is_some() {
                self.step(memory, memory.state.refused(now), &mut news);
                continue;
            }
            let is_looking = looks.is_some();
            if let Some(look) = looks {
                (seen.trouble, seen.silent) = (look.trouble, look.silent);
            }
            let (mut next, _) = decide(&memory.state, &self.policy, &seen.workers, self.stop, now);
            let half_since = seen.half_since.and_then(|since| u64::try_from(since).ok());
            let is_half = half_since
                .is_some_and(|since| now.saturating_sub(Duration::from_secs(since)) >= HALF_GANG);
            if next == memory.state && is_half {
                let fewer = fewer(memory, self.job, seen.running);
                next = match fewer.is_some() && self.is_ours() {
                    true => memory.state.shrunk(),
                    false => memory.state.given_up(),
                };
                if next.phase == Phase::Ending(Because::Resized) {
                    memory.resize = fewer;
                }
            }
            // Workers that were told to end have ended when their Job says so, too: it could make
            // more.
            let has_left = matches!(memory.state.phase, Phase::Ending(_))
                && !matches!(next.phase, Phase::Ending(_));
            let is_idle = child.and_then(|it| it.job.as_deref()).is_none_or(is_idle);
            if next == memory.state || has_left && !is_idle {
                return (seen, news);
            }
            if has_left {
                Self::settle_size(memory, now);
                if memory.state.phase == Phase::Ending(Because::Resized)
                    && memory.revision != wanted
                {
                    // It may ask for something else by now, and waits for that.
                    memory.given = None;
                    next = next.stop_clock(now);
                }
            }
            if next.attempts > memory.state.attempts {
                let Ok(plan) = self.plan else { return (seen, news) };
                if is_looking {
                    return (seen, news);
                }
                let Some(workers) = self.take_turn(memory, plan, now, &mut news) else {
                    return (seen, news);
                };
                memory.workers = workers;
                memory.revision.clone_from(&wanted);
            } else if let (Phase::Ending(_), Some(end)) = (next.phase, &seen.end) {
                memory.last = Some(end.clone());
            }
            self.step(memory, next, &mut news);
        }
    }

    /// Takes in what its queue says: that it has to make room, or why it waits.
    fn hear(&self, memory: &mut Memory, now: Duration, news: &mut Vec<News>) {
        let told_to_end = match memory.state.phase {
            Phase::Running => Some(false),
            // Its workers were seen to end before it was seen why.
            Phase::Ending(Because::Interruption) => Some(true),
            _ => None,
        };
        if let (Some(handed), Some(last), Some(told_to_end)) =
            (&memory.handed, &self.last, told_to_end)
            && last.attempt == memory.state.attempts
            && let Some(why) = last.is_taken_back(handed.system, told_to_end)
        {
            memory.preempted = Some(why);
            self.step(memory, memory.state.preempted(), news);
        }
        let Some(Turn::Ours { told, .. }) = &self.turn else {
            // One whose queue cannot be said keeps what it has, and so do workers that run, until the
            // last of them has ended.
            if self.turn.is_some() || self.job.spec.queue.is_none() {
                memory.waiting = None;
                if !matches!(memory.state.phase, Phase::Running | Phase::Ending(_)) {
                    memory.given = None;
                }
            }
            return;
        };
        if let (Some(eviction), Some(_)) = (&told.eviction, &memory.given) {
            let because = eviction.because.message();
            let why = format!("makes room for `{}`: {because}", eviction.for_whom);
            match memory.state.phase {
                Phase::Running | Phase::Ending(Because::Resized) => {
                    memory.preempted = Some(why);
                    self.step(memory, memory.state.preempted(), news);
                }
                // It has ended, and was about to start again.
                Phase::Waiting { .. } => {
                    (memory.given, memory.preempted) = (None, Some(why));
                    memory.state = memory.state.stop_clock(now);
                }
                _ => {}
            }
        } else if let (Some(resize), Some(given)) = (&told.resize, &mut memory.given)
            && memory.resize.as_ref() != Some(resize)
        {
            if resize.is_growth() || matches!(memory.state.phase, Phase::Waiting { .. }) {
                given.resize(resize, now);
            }
            match memory.state.phase {
                // It has ended, and was about to start again.
                Phase::Waiting { .. } => news.push(status::resized(resize)),
                Phase::Running | Phase::Ending(_) => {
                    memory.resize = Some(resize.clone());
                    let next = match resize.is_growth() {
                        true => memory.state.grown(),
                        false => memory.state.shrunk(),
                    };
                    self.step(memory, next, news);
                }
                _ => {}
            }
        }
        if told.waiting.is_some() && memory.given.is_none() {
            memory.waiting.clone_from(&told.waiting);
        }
    }

    /// How many workers may start: all of a job without a queue; none while it is not its turn.
    fn take_turn(
        &self,
        memory: &mut Memory,
        plan: &JobPlan,
        now: Duration,
        news: &mut Vec<News>,
    ) -> Option<u32> {
        let may_start = match &self.turn {
            Some(Turn::Theirs(theirs)) => {
                let jobs = (self.last.as_ref(), self.next.as_ref());
                return theirs.take(memory, jobs, now, news);
            }
            Some(Turn::Ours { name, told }) => take_ours(memory, (*name, told), plan, now, news),
            None => {
                (memory.handed, memory.held) = (None, None);
                true
            }
        };
        // It was planned for what it had before; the next look has another plan.
        let is_planned = memory.given.as_ref().is_none_or(|it| it.assignment.count == plan.workers);
        (may_start && is_planned).then(|| {
            memory.made = None;
            plan.workers
        })
    }

    /// Trainyard's own queue gave it what it has.
    fn is_ours(&self) -> bool {
        matches!(self.turn, Some(Turn::Ours { .. }))
    }

    /// No worker runs any more: what they were to give up is free.
    fn settle_size(memory: &mut Memory, now: Duration) {
        if let (Some(resize), Some(given)) = (memory.resize.take(), &mut memory.given) {
            given.resize(&resize, now);
        }
    }

    fn step(&self, memory: &mut Memory, next: State, news: &mut Vec<News>) {
        let resize = memory.resize.as_ref().map(ToString::to_string);
        let why = match next.reason {
            Cause::Preempted => memory.preempted.as_deref(),
            Cause::Grown | Cause::Shrunk => resize.as_deref(),
            _ => memory.last.as_deref(),
        };
        news.extend(status::step(&memory.state, &next, why));
        let was_ended_for_good =
            matches!(memory.state.phase, Phase::Ending(Because::Preempted | Because::Changed))
                && matches!(next.phase, Phase::Waiting { .. });
        if was_ended_for_good || next.is_over() {
            (memory.given, memory.resize) = (None, None);
        }
        if next.is_over() {
            (memory.waiting, memory.held) = (None, None);
        }
        // Each start is handed over anew.
        let has_workers = |state: &State| matches!(state.phase, Phase::Running | Phase::Ending(_));
        if next.is_over() || has_workers(&memory.state) && !has_workers(&next) {
            memory.handed = None;
        }
        memory.state = next;
    }
}

/// As how many it goes on of whose workers some found no node, if those that run will do.
fn fewer(memory: &Memory, job: &TrainingJob, running: u32) -> Option<Resize> {
    let given = memory.given.as_ref().filter(|_| memory.resize.is_none())?;
    let least = job.spec.workers.as_ref()?.min?;
    let Assignment { count: from, borrows, .. } = given.assignment;
    let why = Why::NodesMissing;
    (least..from).contains(&running).then_some(Resize { from, to: running, borrows, why })
}

/// No pod of it runs, and none will be made.
pub(super) fn is_idle(job: &JobFacts) -> bool {
    job.is_over() || job.rests() && job.active == 0
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

/// What carrying out needs to know.
struct Acting<'a> {
    entry: &'a Entry,
    kind: KindIndex,
    /// Another system says when the next start may run.
    is_theirs: bool,
    /// The Job of the last start stays though it does not run.
    is_held: bool,
    plan: Option<&'a JobPlan>,
}

/// Makes the Job of a start, or of the look before it, ends that of one which is to end, and deletes
/// those of earlier ones.
/// Returns what a person has to mend although all requests went well.
async fn act(
    ctx: &Ctx,
    key: &ResourceKey,
    job: &TrainingJob,
    acting: &Acting<'_>,
    memory: &mut Memory,
) -> Result<Option<Problem>, CallError> {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let (entry, kind) = (acting.entry, acting.kind);
    let mut problem = None;
    if let (Some(attempt), Some(plan)) = (to_make(memory, acting, key), acting.plan) {
        match make(ctx, key, uid, acting, (attempt, plan), memory).await? {
            Made::All => {}
            Made::Not(found) => problem = Some(found),
            Made::Never(found) => return Ok(Some(found)),
        }
    }
    let state = memory.state;
    let child = made(memory, entry, kind, key);
    let facts = child.and_then(|child| child.job.as_deref());
    if let (Some(child), Some(facts)) = (child, facts)
        && !facts.is_over()
    {
        let named = (&*child.name, &*child.uid);
        match state.phase {
            // Who let it in would start it again, were it only suspended.
            Phase::Ending(because) if memory.handed.is_some() => {
                let is_ending_itself =
                    matches!(because, Because::Failure(_) | Because::Interruption);
                let stays = because == Because::Preempted && acting.is_held;
                if !is_ending_itself && !stays && !child.is_ending {
                    ctx.calls.end(key, kind, named).await?;
                    ctx.metrics.wrote("Job", "delete");
                }
            }
            Phase::Ending(_) if !facts.asked_to_suspend => {
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
            // Its workers have ended, and it could be started again beside the next one.
            Phase::Waiting { .. } if acting.is_theirs && !acting.is_held && !child.is_ending => {
                ctx.calls.end(key, kind, named).await?;
                ctx.metrics.wrote("Job", "delete");
            }
            _ => {}
        }
    }
    for child in &entry.children {
        let is_ours = child.owner.as_deref() == Some(uid);
        if child.is_ending || !is_ours || !is_left(child, memory, kind, key) {
            continue;
        }
        ctx.calls.delete(key, child.kind, &child.name, &child.uid).await?;
        ctx.metrics.wrote(kinds::owned(child.kind).kind, "delete");
        ctx.world.remove(key, Source::Children(child.kind), &child.name, child.resource_version);
    }
    if let Some(plan) = acting.plan {
        let found = preflight::make(ctx, (key, uid), kind, plan, memory).await?;
        problem = problem.or(found);
    }
    Ok(problem)
}

/// The Job with the nodes that its workers prefer, so that they are packed as the policy would, on those
/// that stay.
async fn prefer_nodes(ctx: &Ctx, job: Value, leaving: &[String]) -> Value {
    let Some(policy) = ctx.cluster.packing else { return job };
    let Some((mut nodes, pods)) = ctx.cluster.gpu_pools.cached() else { return job };
    nodes.retain(|node| !leaving.contains(&node.name));
    let before = job.clone();
    // A thousand nodes with all their pods take some tens of milliseconds.
    let chosen = tokio::task::spawn_blocking(move || hints::prefer(job, &nodes, &pods, policy));
    chosen.await.unwrap_or(before)
}

/// The start whose objects are to be there: the one that runs, or the next one, which was handed over
/// and waits.
fn to_make(memory: &Memory, acting: &Acting<'_>, key: &ResourceKey) -> Option<u32> {
    let attempts = memory.state.attempts;
    match (memory.state.phase, &memory.handed) {
        (Phase::Running, _) => Some(attempts),
        (Phase::Waiting { .. }, Some(handed)) if !handed.is_let_in => {
            let next = attempts.saturating_add(1);
            let there =
                acting.entry.child(acting.kind, &job_name(&key.name, JobRun::Attempt(next)));
            // One that was asked for something else has to go first; its end wakes us.
            let is_other = there.is_some_and(|it| handed.made.as_deref() != Some(&*it.uid));
            (!is_other).then_some(next)
        }
        _ => None,
    }
}

/// What came of making a start's objects.
enum Made {
    All,
    /// What stands in the way of the rest.
    Not(Problem),
    /// It cannot be written at all.
    Never(Problem),
}

async fn make(
    ctx: &Ctx,
    key: &ResourceKey,
    uid: &str,
    acting: &Acting<'_>,
    (attempt, plan): (u32, &JobPlan),
    memory: &mut Memory,
) -> Result<Made, CallError> {
    let not_supported = |message| Problem { reason: Reason::NotSupported, message };
    let (kind, run) = (acting.kind, JobRun::Attempt(attempt));
    let is_running = memory.state.phase == Phase::Running;
    let handover = memory.handed.as_ref().map(Handed::handover);
    let plan = JobPlan { handover, ..plan.clone() };
    let mut objects = match job_objects(&plan, run, &ctx.cluster.objects) {
        Ok(objects) => objects,
        Err(error) => return Ok(Made::Never(not_supported(error.to_string()))),
    };
    if is_running {
        objects.extend(gang_object(&plan, run, &ctx.cluster.objects, memory.workers));
    }
    let name = job_name(&key.name, run);
    let is_there = match is_running {
        true => memory.made.is_some() || made(memory, acting.entry, kind, key).is_some(),
        false => memory.handed.as_ref().is_some_and(|handed| handed.made.is_some()),
    };
    let owner = owner(key, Some(uid));
    let leaving: Vec<String> = memory.leaving.iter().map(|it| it.node.clone()).collect();
    for object in objects {
        let mut object = object.into_value();
        let is_workers = object.get("kind").and_then(Value::as_str) == Some("Job");
        // Whoever else it is handed to knows better where it fits.
        if is_workers && !is_there && plan.handover.is_none() {
            object = prefer_nodes(ctx, object, &leaving).await;
        }
        if is_workers && !is_there {
            object = hints::avoid(object, &leaving);
        }
        if let (true, Some(given)) = (is_workers && !is_there, &memory.given) {
            object = quota::marked(object, uid, given);
        }
        let wanted = match wanted(key, &owner, object) {
            Ok(wanted) => wanted,
            Err(message) => return Ok(Made::Never(not_supported(message))),
        };
        // A Job cannot be changed, and one that is gone is a start that has ended.
        if wanted.kind == kind && is_there {
            continue;
        }
        // Its pods wait for it. Once for each start, since nobody may look whether it is there.
        if let Some(name) = plan.secret.as_ref().filter(|_| wanted.kind == kind) {
            let secret = match secret(key, name, &owner) {
                Ok(secret) => secret,
                Err(message) => return Ok(Made::Never(not_supported(message))),
            };
            if ctx.calls.create_secret(key, &secret).await? {
                ctx.metrics.wrote("Secret", "create");
            }
        }
        if let Some(conflict) = ensure(ctx, key, uid, &wanted).await? {
            // Workers without their Service or account would only fail.
            return Ok(Made::Not(conflict));
        }
    }
    if let (false, false, Some(handed)) = (is_running, is_there, &mut memory.handed) {
        let entry = ctx.world.entry(key).unwrap_or_default();
        let child = entry.child(kind, &name).filter(|it| !it.is_ending);
        handed.made = child.map(|child| child.uid.to_string());
    }
    Ok(Made::All)
}

/// Reads warnings about a worker that does not start and does not say why, or about the pod that looks
/// before. Nothing watches events.
async fn look(
    ctx: &Ctx,
    key: &ResourceKey,
    seen: &Seen,
    now: i64,
    memory: &Memory,
) -> (Option<Trouble>, Option<Duration>) {
    let Some(silent) = &seen.silent else { return (None, None) };
    let (job, since) = match (memory.state.phase, memory.look()) {
        (Phase::Running, _) => {
            (job_name(&key.name, JobRun::Attempt(memory.state.attempts)), memory.state.started)
        }
        (_, Some(look)) => (preflight_name(&key.name), Some(look.since)),
        (_, None) => return (None, None),
    };
    let since = match silent {
        Silent::Pod { created, .. } => *created,
        Silent::NoPod => since.map_or(now, |at| i64::try_from(at.as_secs()).unwrap_or(now)),
    };
    let wait = since.saturating_add(FIRST_LOOK).saturating_sub(now);
    if wait > 0 {
        return (None, Some(Duration::from_secs(u64::try_from(wait).unwrap_or(1))));
    }
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
    /// Where else there is no such queue.
    nowhere: String,
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
            nowhere: &self.nowhere,
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

#[test]
fn who_goes_on_with_those_that_found_a_node() {
    let job = |workers: Value| -> TrainingJob {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"},
            "spec": {
                "framework": "generic", "image": "i", "command": ["t"], "queue": "q", "workers": workers,
            },
        }))
        .expect("a job")
    };
    let now = Duration::from_secs(9);
    let mut memory = Memory::new(now);
    let elastic = job(serde_json::json!({"count": 4, "min": 2}));
    let of =
        |memory: &Memory, job: &TrainingJob, running| fewer(memory, job, running).map(|it| it.to);
    assert_eq!(of(&memory, &elastic, 3), None, "it has nothing");
    let assignment = Assignment { flavour: "t4".to_owned(), count: 4, borrows: false };
    memory.given = Some(super::memory::Given {
        queue: "q".to_owned(),
        assignment,
        per_worker: trainyard_queue::Amounts::default(),
        since: now,
        resized: None,
    });
    assert_eq!(of(&memory, &elastic, 3), Some(3));
    assert_eq!(of(&memory, &elastic, 2), Some(2));
    assert_eq!(of(&memory, &elastic, 1), None, "too few");
    assert_eq!(of(&memory, &elastic, 4), None, "none is missing");
    let rigid = job(serde_json::json!({"count": 4}));
    assert_eq!(of(&memory, &rigid, 3), None, "all are needed");
    memory.resize = fewer(&memory, &elastic, 3);
    assert_eq!(of(&memory, &elastic, 2), None, "it is being resized");
    let text = memory.resize.map(|it| it.to_string());
    let expected = "from 4 to 3 workers, since there was no node for the others";
    assert_eq!(text.as_deref(), Some(expected));
}
