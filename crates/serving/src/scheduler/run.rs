//! The queue of one loaded version, between the requests that enter it and the compute threads.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::compute::{Compute, Id, Offer, Source, Turn};
use super::estimate::{Average, RunTime};
use super::execute::{Phases, execute_batch, execute_one};
use super::fast_path::runs_inline;
use super::form::{Decision, decide, latest_start};
use super::job::{Done, Job};
use super::options::{SchedulerOptions, TimeoutAction};
use super::order::Order;
use super::queue::{Expired, Full, Queue, Ticket, Waiting};
use crate::engine::Session;
use crate::error::InferError;
use crate::metrics::{Counters, Executed, Failure, Metrics, Served, Shown};
use crate::request::{BatchClose, Execution};
use crate::server::ModelStatistics;
use crate::tensor::Tensor;

/// The queue of one loaded version. Share it in an [`Arc`].
///
/// Jobs borrow it, so it can only be dropped when none is left; what still runs for a client that
/// has gone ends on its compute thread.
pub struct Scheduler {
    inner: Arc<Inner>,
    compute: Compute,
    id: Id,
    /// Takes the version out of `/metrics` when the scheduler is dropped.
    _shown: Shown,
}

struct Inner {
    model: Arc<str>,
    version: u64,
    session: Arc<dyn Session>,
    options: Arc<SchedulerOptions>,
    state: Mutex<State>,
    /// Executions now, never more than `options.instances`.
    running: AtomicUsize,
    /// Jobs that entered and are neither answered nor given up.
    in_flight: AtomicUsize,
    /// Told when `running` or `in_flight` falls to 0.
    idle: Notify,
    counters: Arc<Counters>,
    alone: RunTime,
    execution: Average,
    per_request: Average,
}

struct State {
    queue: Queue<Reply>,
    /// Only where answers must leave in order.
    order: Option<Order<(Reply, Answer)>>,
    quiet: Option<Quiet>,
}

/// A compute thread will look at the queue at `until`, and need not be woken for requests that
/// change nothing before.
struct Quiet {
    until: Instant,
    /// Batch elements with which a batch would be closed.
    rows: usize,
}

type Answer = Result<Done, InferError>;
type Reply = oneshot::Sender<Answer>;

impl Scheduler {
    pub fn new(
        model: Arc<str>,
        version: u64,
        session: Arc<dyn Session>,
        options: SchedulerOptions,
        compute: Compute,
        metrics: &Metrics,
    ) -> Self {
        let shown = metrics.show(Arc::clone(&model), version);
        let options = Arc::new(options);
        let ordered = options.batching().is_some_and(|batching| batching.preserve_ordering);
        let state = State {
            queue: Queue::new(Arc::clone(&options), Instant::now()),
            order: ordered.then(Order::new),
            quiet: None,
        };
        let inner = Arc::new(Inner {
            model,
            version,
            session,
            alone: RunTime::starting_at(options.single_run),
            options,
            state: Mutex::new(state),
            running: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            counters: Arc::clone(&shown.counters),
            execution: Average::default(),
            per_request: Average::default(),
        });
        let id = compute.add(Arc::new(Turns(Arc::clone(&inner))));
        Self { inner, compute, id, _shown: shown }
    }

    /// Queues and runs one job. Dropping the future cancels the job while it waits.
    ///
    /// # Errors
    /// `QueueFull` at once, `QueueTimeout` and `DeadlineExceeded` when it is due, and what the
    /// engine makes of this job alone: a failed batch is run again one by one.
    pub async fn run(&self, job: Job) -> Result<Done, InferError> {
        let arrived = Instant::now();
        let in_flight = InFlight::enter(&self.inner);
        self.admit(&job, arrived)?;
        if let Some(slot) = self.inline_slot(&job, in_flight.others) {
            let answer = self.inner.run_inline(&job, arrived);
            drop(slot);
            if self.inner.counters.pending.load(Ordering::SeqCst) > 0 {
                self.compute.wake(self.id);
            }
            return answer;
        }
        self.wait(job, arrived).await
    }

    /// Counters since the version was loaded.
    pub fn statistics(&self) -> ModelStatistics {
        self.inner.counters.statistics(&self.inner.model, self.inner.version)
    }

    /// Waits until every job that has entered is answered, and nothing runs.
    pub async fn drained(&self) {
        loop {
            let mut notified = std::pin::pin!(self.inner.idle.notified());
            notified.as_mut().enable();
            let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
            if count(&self.inner.in_flight) == 0 && count(&self.inner.running) == 0 {
                return;
            }
            notified.await;
        }
    }

    fn admit(&self, job: &Job, now: Instant) -> Result<(), InferError> {
        if job.deadline.is_some_and(|deadline| deadline <= now) {
            self.inner.counters.failed(Failure::Deadline, Duration::ZERO);
            return Err(self.inner.expired(Expired::Deadline));
        }
        Ok(())
    }

    /// An instance to run the job on at once, if that is the best way.
    fn inline_slot(&self, job: &Job, others: usize) -> Option<Slot<&Inner>> {
        let inner = &*self.inner;
        if inner.counters.pending.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let expected = inner.alone.expect(job.size());
        if !runs_inline(inner.options.batching(), expected, others) {
            return None;
        }
        Slot::take(inner)
    }

    /// The way through the queue.
    async fn wait(&self, job: Job, arrived: Instant) -> Result<Done, InferError> {
        let deadline = job.deadline;
        let (reply, mut answer) = oneshot::channel();
        let ticket = self.enqueue(job, reply, arrived)?;
        let mut place = Place { inner: &self.inner, ticket, left: false };
        let rejected = ticket
            .expiry
            .filter(|expiry| expiry.action == TimeoutAction::Reject)
            .map(|expiry| expiry.at);
        let last_moment = rejected.into_iter().chain(deadline).min();
        let answered = match last_moment {
            None => answer.await,
            Some(moment) => {
                tokio::select! {
                    biased;
                    answered = &mut answer => answered,
                    () = tokio::time::sleep_until(moment.into()) => {
                        if self.inner.withdraw(&ticket).is_some() {
                            place.left = true;
                            let is_late = deadline.is_some_and(|deadline| deadline <= moment);
                            let why =
                                if is_late { Expired::Deadline } else { Expired::QueueTimeout };
                            self.inner.counters.failed(why.into(), arrived.elapsed());
                            return Err(self.inner.expired(why));
                        }
                        // It has been taken to be run.
                        answer.await
                    }
                }
            }
        };
        place.left = true;
        answered.unwrap_or(Err(InferError::ShuttingDown))
    }

    fn enqueue(&self, job: Job, reply: Reply, now: Instant) -> Result<Ticket, InferError> {
        let inner = &*self.inner;
        let mut state = inner.lock();
        let joins = state.queue.iter().next().is_some_and(|first| first.job.joins(&job));
        let deadline = job.deadline;
        let ticket = match state.queue.push(job, reply, now) {
            Ok(ticket) => ticket,
            Err(Full { limit }) => {
                let retry_after = inner.retry_after(state.queue.len());
                drop(state);
                inner.counters.failed(Failure::QueueFull, Duration::ZERO);
                let model = inner.model.to_string();
                return Err(InferError::QueueFull { model, limit, retry_after });
            }
        };
        let last_moment = latest_start(&ticket, deadline, inner.expected_execution());
        let keeps_quiet = joins && state.keeps_quiet(last_moment);
        if let Some(order) = &mut state.order {
            order.expect(ticket.sequence);
        }
        inner.count_pending(&state);
        drop(state);
        // While no instance is free, the one that ends next looks at the queue by itself.
        if !keeps_quiet && inner.running.load(Ordering::SeqCst) < inner.options.instances.max(1) {
            self.compute.wake(self.id);
        }
        Ok(ticket)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.compute.remove(self.id);
    }
}

impl State {
    /// Whether a thread is going to look at the queue soon enough, now that a request joined it that
    /// must be taken by `last_moment`.
    fn keeps_quiet(&self, last_moment: Option<Instant>) -> bool {
        self.quiet.as_ref().is_some_and(|quiet| {
            self.queue.rows() < quiet.rows && last_moment.is_none_or(|moment| moment >= quiet.until)
        })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_pending(&self, state: &State) {
        self.counters.pending.store(state.queue.len(), Ordering::SeqCst);
    }

    fn expected_execution(&self) -> Duration {
        let measured = self.options.single_run.map(|single| single.time);
        self.execution.duration().or(measured).unwrap_or_default()
    }

    /// When a queue of this length will have been worked off.
    fn retry_after(&self, waiting: usize) -> Duration {
        let Some(each) = self.per_request.duration() else { return Duration::from_secs(1) };
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let instances = u32::try_from(self.options.instances.max(1)).unwrap_or(u32::MAX);
        let all = each.saturating_mul(waiting) / instances;
        all.clamp(Duration::from_millis(10), Duration::from_secs(60))
    }

    fn expired(&self, why: Expired) -> InferError {
        match why {
            Expired::QueueTimeout => InferError::QueueTimeout,
            Expired::Deadline => InferError::DeadlineExceeded { model: self.model.to_string() },
        }
    }

    /// Takes a job that still waits out of the queue; nobody will be answered.
    fn withdraw(&self, ticket: &Ticket) -> Option<()> {
        let mut state = self.lock();
        let gone = state.queue.withdraw(ticket)?;
        self.count_pending(&state);
        let leaving = state.order.as_mut().map(|order| order.forget(ticket.sequence));
        drop(state);
        drop(gone);
        send(leaving.into_iter().flatten());
        Some(())
    }

    /// Sends an answer, or holds it back where the order demands it.
    fn answer(&self, ticket: &Ticket, reply: Reply, answer: Answer) {
        if self.options.batching().is_some_and(|batching| batching.preserve_ordering)
            && let Some(order) = &mut self.lock().order
        {
            let leaving = order.answer(ticket.sequence, (reply, answer));
            send(leaving);
            return;
        }
        send([(reply, answer)]);
    }

    /// Answers a job that will not run.
    fn refuse(&self, one: Waiting<Reply>, failure: Failure, error: InferError) {
        self.counters.failed(failure, one.ticket.enqueued.elapsed());
        self.answer(&one.ticket, one.reply, Err(error));
    }

    /// The fast path: no queue, no channel, no other thread.
    fn run_inline(&self, job: &Job, arrived: Instant) -> Answer {
        let result = execute_one(&*self.session, job);
        self.conclude(job, arrived, arrived, BatchClose::Unbatched, result)
    }

    /// Runs what was taken from the queue, and answers it.
    fn run_batch(&self, batch: Vec<Waiting<Reply>>, close: BatchClose) {
        let started = Instant::now();
        if batch.len() > 1 {
            let jobs: Vec<&Job> = batch.iter().map(|one| &one.job).collect();
            match execute_batch(&*self.session, &jobs) {
                Ok((outputs, phases)) => {
                    self.conclude_batch(batch, outputs, phases, started, close);
                    return;
                }
                // Only running them one by one tells whose fault it was, if it was anybody's.
                Err(error) => {
                    let requests = batch.len();
                    tracing::debug!(model = %self.model, %error, requests, "batch failed");
                }
            }
        }
        for one in batch {
            let now = Instant::now();
            if one.reply.is_closed() {
                self.refuse(one, Failure::Cancelled, InferError::Cancelled);
            } else if one.job.deadline.is_some_and(|deadline| deadline <= now) {
                self.refuse(one, Failure::Deadline, self.expired(Expired::Deadline));
            } else {
                let result = execute_one(&*self.session, &one.job);
                let answer = self.conclude(&one.job, one.ticket.enqueued, now, close, result);
                self.answer(&one.ticket, one.reply, answer);
            }
        }
    }

    /// Counts one job that ran alone.
    fn conclude(
        &self,
        job: &Job,
        arrived: Instant,
        started: Instant,
        close: BatchClose,
        result: Result<(Vec<Tensor>, Phases), InferError>,
    ) -> Answer {
        match result {
            Ok((outputs, phases)) => {
                self.alone.add(job.size(), phases.infer);
                self.count_execution(job.rows, 1, phases, close);
                let queue = started.saturating_duration_since(arrived);
                self.count_served(queue, phases, arrived);
                let (compute, batch_size) = (phases.total(), job.rows);
                Ok(Done { outputs, execution: Execution { queue, compute, batch_size, close } })
            }
            Err(error) => {
                self.counters.failed(Failure::Engine, arrived.elapsed());
                Err(error)
            }
        }
    }

    /// Counts and answers several jobs that ran at once.
    fn conclude_batch(
        &self,
        batch: Vec<Waiting<Reply>>,
        outputs: Vec<Vec<Tensor>>,
        phases: Phases,
        started: Instant,
        close: BatchClose,
    ) {
        let batch_size = batch.iter().map(|one| one.job.rows).sum();
        self.count_execution(batch_size, batch.len(), phases, close);
        for (one, outputs) in batch.into_iter().zip(outputs) {
            let queue = started.saturating_duration_since(one.ticket.enqueued);
            self.count_served(queue, phases, one.ticket.enqueued);
            let execution = Execution { queue, compute: phases.total(), batch_size, close };
            self.answer(&one.ticket, one.reply, Ok(Done { outputs, execution }));
        }
    }

    fn count_execution(&self, rows: usize, requests: usize, phases: Phases, close: BatchClose) {
        let Phases { input, infer, output } = phases;
        self.counters.executed(&Executed { rows, close, input, infer, output });
        self.execution.add(phases.total());
        self.per_request.add(phases.total() / u32::try_from(requests.max(1)).unwrap_or(u32::MAX));
    }

    fn count_served(&self, queue: Duration, phases: Phases, arrived: Instant) {
        let Phases { input, infer, output } = phases;
        self.counters.served(&Served { queue, input, infer, output, total: arrived.elapsed() });
    }
}

/// A client that has gone needs no answer.
fn send(answers: impl IntoIterator<Item = (Reply, Answer)>) {
    for (reply, answer) in answers {
        let _ = reply.send(answer);
    }
}

impl From<Expired> for Failure {
    fn from(why: Expired) -> Self {
        match why {
            Expired::QueueTimeout => Self::QueueTimeout,
            Expired::Deadline => Self::Deadline,
        }
    }
}

/// What compute threads know of a scheduler.
struct Turns(Arc<Inner>);

impl Source for Turns {
    fn offer(&self, now: Instant) -> Offer {
        let inner = &self.0;
        let mut state = inner.lock();
        state.quiet = None;
        let expired = state.queue.expire(now);
        let mut cancelled = Vec::new();
        let offer = loop {
            match decide(&state.queue, &inner.options, inner.expected_execution(), now) {
                Decision::Empty => break Offer::Nothing,
                Decision::Wait { until, rows } => {
                    state.quiet = Some(Quiet { until, rows });
                    break Offer::Later(until);
                }
                Decision::Run { count, close } => {
                    // Only for a run, never to look: who enters the queue takes a slot in use for a
                    // run, after which the queue is looked at.
                    let Some(slot) = Slot::take(Arc::clone(inner)) else { break Offer::Nothing };
                    let (gone, batch): (Vec<_>, Vec<_>) =
                        state.queue.take(count).into_iter().partition(|one| one.reply.is_closed());
                    cancelled.extend(gone);
                    if batch.is_empty() {
                        continue;
                    }
                    let more = !state.queue.is_empty()
                        && inner.running.load(Ordering::SeqCst) < inner.options.instances;
                    let run = Box::new(move || {
                        slot.holder.run_batch(batch, close);
                        drop(slot);
                    });
                    break Offer::Run(Turn { run, expected: inner.expected_execution(), more });
                }
            }
        };
        inner.count_pending(&state);
        drop(state);
        for (one, why) in expired {
            inner.refuse(one, why.into(), inner.expired(why));
        }
        for one in cancelled {
            inner.refuse(one, Failure::Cancelled, InferError::Cancelled);
        }
        offer
    }
}

/// The right to one of the executions at a time.
struct Slot<H: Deref<Target = Inner>> {
    holder: H,
}

impl<H: Deref<Target = Inner>> Slot<H> {
    fn take(holder: H) -> Option<Self> {
        let instances = holder.options.instances.max(1);
        holder
            .running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| {
                (running < instances).then_some(running + 1)
            })
            .ok()?;
        Some(Self { holder })
    }
}

impl<H: Deref<Target = Inner>> Drop for Slot<H> {
    fn drop(&mut self) {
        if self.holder.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.holder.idle.notify_waiters();
        }
    }
}

/// Counts a job from its arrival until its future ends, whichever way.
struct InFlight<'a> {
    inner: &'a Inner,
    /// How many there were before it.
    others: usize,
}

impl<'a> InFlight<'a> {
    fn enter(inner: &'a Inner) -> Self {
        Self { others: inner.in_flight.fetch_add(1, Ordering::SeqCst), inner }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.inner.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.inner.idle.notify_waiters();
        }
    }
}

/// A job's place in the queue, given up when its future is dropped.
struct Place<'a> {
    inner: &'a Inner,
    ticket: Ticket,
    /// Whether it has already left.
    left: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.left && self.inner.withdraw(&self.ticket).is_some() {
            self.inner.counters.failed(Failure::Cancelled, self.ticket.enqueued.elapsed());
        }
    }
}

#[cfg(test)]
mod tests;
