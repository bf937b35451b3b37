//! Decides what a training job does next: start its workers, end them, wait, or be over.
//!
//! In: the [`State`] so far, what the workers are doing, and the time. Out: the next state and an
//! [`Order`]. All workers run or none: when one of them ends without having finished, the others are
//! ended too, and all start again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a manifest says about failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures after which the workers start again.
    pub retries: u32,
    /// How long the job may take from its first start on. Time in which it waits for its queue, or in
    /// which a person has stopped it, does not count.
    pub deadline: Option<Duration>,
}

/// Delay after the first failure in a row; it doubles with each.
const DELAY: Duration = Duration::from_secs(1);
/// No delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Workers that ran so long had come to work: their next failure is the first in a row.
const HEALTHY_AFTER: Duration = Duration::from_secs(600);

/// An interruption this soon after the start may be of the program's own making, such as one that
/// kills itself: no fault that could be told apart, but each in a row waits longer. What was
/// [`State::taken`] is told apart.
const SOON: Duration = Duration::from_secs(60);

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    Running,
    Finished,
    Failed(Failure),
    /// Somebody other than us ended it, or the supervisor was gone when it should have started: no
    /// fault of the program.
    Interrupted,
}

/// Why a worker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// Its program ended with an error, or by a signal.
    Crashed,
    OutOfMemory,
    /// It showed no progress.
    Hung,
    /// Its program could not be started, which another attempt does not change.
    NotStarted,
}

/// What is happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It starts at that time, since the Unix epoch.
    Waiting {
        until: Duration,
    },
    Running,
    /// Its workers are being ended.
    Ending(Because),
    Succeeded,
    Failed,
    /// A person ended it.
    Interrupted,
}

/// Why workers are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Because {
    Failure(Failure),
    Interruption,
    /// Some workers run and others cannot start: they would wait for each other for ever.
    Incomplete,
    /// What is asked for is another program now.
    Changed,
    Deadline,
    Asked,
    /// Others need the room more.
    Preempted,
    /// They start again at once, as more or fewer.
    Resized,
}

/// Why the phase is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Declared,
    Started,
    /// All workers have finished.
    Finished,
    WorkerFailed,
    WorkerInterrupted,
    BackOff,
    RetriesExhausted,
    CannotStart,
    DeadlineExceeded,
    Stopped,
    Resumed,
    WorkersMissing,
    SpecChanged,
    /// It makes room for another job of its queue or cohort.
    Preempted,
    /// It goes on with more workers.
    Grown,
    /// It goes on with fewer workers.
    Shrunk,
}

impl Reason {
    /// The event's reason and the condition's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "Declared",
            Self::Started => "Started",
            Self::Finished => "Finished",
            Self::WorkerFailed => "WorkerFailed",
            Self::WorkerInterrupted => "WorkerInterrupted",
            Self::BackOff => "BackOff",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::CannotStart => "CannotStart",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Stopped => "Stopped",
            Self::Resumed => "Resumed",
            Self::WorkersMissing => "WorkersMissing",
            Self::SpecChanged => "SpecChanged",
            Self::Preempted => "Preempted",
            Self::Grown => "Grown",
            Self::Shrunk => "Shrunk",
        }
    }
}

/// Where a job stands. Times are since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub phase: Phase,
    pub reason: Reason,
    /// Times that the workers were started.
    pub attempts: u32,
    pub failures: u32,
    pub interruptions: u32,
    /// Failures in a row.
    row: u32,
    /// A worker of this attempt was taken.
    #[serde(default)]
    taken: bool,
    /// When the workers were started first.
    pub began: Option<Duration>,
    /// When they were started last.
    pub started: Option<Duration>,
    /// When the job was over.
    pub ended: Option<Duration>,
    /// Since when its deadline stands still; none while it runs.
    #[serde(default)]
    clock_stopped: Option<Duration>,
    /// For how long it had stood still before.
    #[serde(default)]
    clock_stood: Duration,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Nothing,
    /// Start all workers.
    Start,
    /// End those that run. With `checkpoint` the program is asked for one first; where a worker is
    /// gone, the others cannot write one together.
    End {
        checkpoint: bool,
    },
}

impl State {
    /// Of a job that was just declared.
    pub fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            reason: Reason::Declared,
            attempts: 0,
            failures: 0,
            interruptions: 0,
            row: 0,
            taken: false,
            began: None,
            started: None,
            ended: None,
            clock_stopped: None,
            clock_stood: Duration::ZERO,
        }
    }

    /// Whether nothing will happen any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed | Phase::Interrupted)
    }

    /// The phase in one word.
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Waiting { .. } => "Waiting",
            Phase::Running => "Running",
            Phase::Ending(_) => "Ending",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
            Phase::Interrupted => "Interrupted",
        }
    }

    /// When something is to be decided though nothing has happened.
    pub fn look_again_at(&self, policy: &Policy) -> Option<Duration> {
        let deadline = self.deadline(policy);
        match self.phase {
            Phase::Waiting { until } => {
                Some(deadline.map_or(until, |deadline| deadline.min(until)))
            }
            Phase::Running => deadline,
            _ => None,
        }
    }

    /// When it has to be done; none before its first start, and while the deadline stands still.
    pub fn deadline(&self, policy: &Policy) -> Option<Duration> {
        if self.clock_stopped.is_some() {
            return None;
        }
        Some(self.began?.saturating_add(self.clock_stood).saturating_add(policy.deadline?))
    }

    /// How much of its deadline is left once it starts, of a job that waits for its queue.
    pub fn left(&self, policy: &Policy) -> Option<Duration> {
        let ran = self.clock_stopped.zip(self.began);
        let ran = ran.map_or(Duration::ZERO, |(stopped, began)| stopped.saturating_sub(began));
        Some(policy.deadline?.saturating_sub(ran.saturating_sub(self.clock_stood)))
    }

    /// Lets the deadline stand still from now on, until the workers start.
    pub fn stop_clock(self, now: Duration) -> Self {
        Self { clock_stopped: self.clock_stopped.or(Some(now)), ..self }
    }

    /// Whether its workers end and do not start again by themselves: what they have is about to be
    /// free.
    pub fn is_leaving(&self) -> bool {
        let Phase::Ending(because) = self.phase else { return false };
        matches!(
            because,
            Because::Preempted | Because::Changed | Because::Asked | Because::Deadline
        )
    }

    fn over(self, phase: Phase, reason: Reason, now: Duration) -> Self {
        Self { phase, reason, ended: Some(now), ..self }
    }

    fn ending(self, because: Because, reason: Reason) -> Self {
        Self { phase: Phase::Ending(because), reason, ..self }
    }

    /// Goes on after a person had ended it; any other stays as it is.
    pub fn resumed(self, now: Duration) -> Self {
        match self.phase {
            Phase::Interrupted => Self {
                phase: Phase::Waiting { until: now },
                reason: Reason::Resumed,
                ended: None,
                row: 0,
                ..self
            },
            _ => self,
        }
    }

    /// Another program is asked for: workers that run end, and the failures of the one before do not
    /// count any more. A job that has failed begins anew; one that has finished stays so.
    pub fn replaced(self, now: Duration) -> Self {
        let fresh = Self { failures: 0, row: 0, ..self };
        match self.phase {
            Phase::Running => fresh.ending(Because::Changed, Reason::SpecChanged),
            Phase::Failed => Self {
                phase: Phase::Waiting { until: now },
                reason: Reason::SpecChanged,
                began: None,
                ended: None,
                clock_stopped: None,
                clock_stood: Duration::ZERO,
                ..fresh
            },
            Phase::Waiting { .. } | Phase::Ending(_) | Phase::Interrupted => fresh,
            Phase::Succeeded => self,
        }
    }

    /// It waits, and was found to be one that cannot start: that is its end.
    pub fn refused(self, now: Duration) -> Self {
        match self.phase {
            Phase::Waiting { .. } => self.over(Phase::Failed, Reason::CannotStart, now),
            _ => self,
        }
    }

    /// Gives up workers that run and wait for others that cannot start.
    pub fn given_up(self) -> Self {
        match self.phase {
            Phase::Running => self.ending(Because::Incomplete, Reason::WorkersMissing),
            _ => self,
        }
    }

    /// Makes room for another job: it is asked for a checkpoint, ends, and may start again at once, as
    /// far as it is up to it. Workers that were interrupted have ended of that.
    pub fn preempted(self) -> Self {
        match self.phase {
            Phase::Running | Phase::Ending(Because::Resized | Because::Interruption) => {
                self.ending(Because::Preempted, Reason::Preempted)
            }
            _ => self,
        }
    }

    /// A worker of this attempt was taken away for certain: its machine went down or is somebody
    /// else's, or who runs the cluster took it off. So that is why the attempt ends, and neither why
    /// the next one should wait nor what others do that miss that worker is a fault of the program.
    pub fn taken(self) -> Self {
        match self.phase {
            Phase::Running | Phase::Ending(_) => Self { taken: true, ..self },
            _ => self,
        }
    }

    /// Its workers are asked for a checkpoint, end, and start again as more of them.
    pub fn grown(self) -> Self {
        self.resized(Reason::Grown)
    }

    /// Its workers are asked for a checkpoint, end, and start again as fewer.
    pub fn shrunk(self) -> Self {
        self.resized(Reason::Shrunk)
    }

    fn resized(self, reason: Reason) -> Self {
        match self.phase {
            Phase::Running | Phase::Ending(Because::Resized) => {
                self.ending(Because::Resized, reason)
            }
            _ => self,
        }
    }

    /// Waits until the next attempt, after `row` failures in a row; these say nothing of an attempt of which
    /// a worker was taken.
    fn waiting(self, now: Duration) -> Self {
        let row = if self.taken { 0 } else { self.row };
        let factor = 1u32.checked_shl(row.saturating_sub(1)).unwrap_or(u32::MAX);
        let delay = DELAY.saturating_mul(factor).min(LONGEST_DELAY);
        Self {
            phase: Phase::Waiting { until: now.saturating_add(delay) },
            reason: Reason::BackOff,
            ..self
        }
    }
}

/// Decides one step. `workers` are those of this attempt; `stop` says that a person wants it ended.
///
/// It is called again with the state that it gave until that does not change.
pub fn decide(
    state: &State,
    policy: &Policy,
    workers: &[Worker],
    stop: bool,
    now: Duration,
) -> (State, Order) {
    let is_late = state.deadline(policy).is_some_and(|deadline| now >= deadline);
    match state.phase {
        Phase::Succeeded | Phase::Failed | Phase::Interrupted => (*state, Order::Nothing),
        Phase::Waiting { .. } if stop => {
            (state.stop_clock(now).over(Phase::Interrupted, Reason::Stopped, now), Order::Nothing)
        }
        Phase::Waiting { .. } if is_late => {
            (state.over(Phase::Failed, Reason::DeadlineExceeded, now), Order::Nothing)
        }
        Phase::Waiting { until } if now < until => (*state, Order::Nothing),
        Phase::Waiting { .. } => {
            let stood = state.clock_stopped.map_or(Duration::ZERO, |it| now.saturating_sub(it));
            let stood = state.began.map_or(Duration::ZERO, |_| stood);
            let next = State {
                phase: Phase::Running,
                reason: Reason::Started,
                attempts: state.attempts.saturating_add(1),
                taken: false,
                began: state.began.or(Some(now)),
                started: Some(now),
                clock_stopped: None,
                clock_stood: state.clock_stood.saturating_add(stood),
                ..*state
            };
            (next, Order::Start)
        }
        Phase::Running => running(state, workers, stop, is_late, now),
        Phase::Ending(_) if have_finished(workers) => {
            (state.over(Phase::Succeeded, Reason::Finished, now), Order::Nothing)
        }
        Phase::Ending(because) if !workers.contains(&Worker::Running) => {
            (ended(state, because, policy, now), Order::Nothing)
        }
        Phase::Ending(because) if stop && because != Because::Asked => {
            (state.ending(Because::Asked, Reason::Stopped), Order::Nothing)
        }
        Phase::Ending(_) => (*state, Order::Nothing),
    }
}

fn running(
    state: &State,
    workers: &[Worker],
    stop: bool,
    is_late: bool,
    now: Duration,
) -> (State, Order) {
    if have_finished(workers) {
        return (state.over(Phase::Succeeded, Reason::Finished, now), Order::Nothing);
    }
    if let Some(because) = lost(workers).map(|because| blamed(because, state.taken)) {
        let reason = match because {
            Because::Interruption => Reason::WorkerInterrupted,
            _ => Reason::WorkerFailed,
        };
        return (state.ending(because, reason), Order::End { checkpoint: false });
    }
    if stop {
        let next = state.ending(Because::Asked, Reason::Stopped);
        return (next, Order::End { checkpoint: true });
    }
    if is_late {
        let next = state.ending(Because::Deadline, Reason::DeadlineExceeded);
        return (next, Order::End { checkpoint: true });
    }
    (*state, Order::Nothing)
}

fn have_finished(workers: &[Worker]) -> bool {
    !workers.is_empty() && workers.iter().all(|worker| *worker == Worker::Finished)
}

/// Why the gang is not whole any more. A worker that could not start says more than one that then
/// missed it, and a failure more than an interruption.
fn lost(workers: &[Worker]) -> Option<Because> {
    let failures = workers.iter().filter_map(|worker| match worker {
        Worker::Failed(failure) => Some(*failure),
        _ => None,
    });
    let rank = |failure: &Failure| match failure {
        Failure::NotStarted => 0,
        Failure::OutOfMemory => 1,
        Failure::Hung => 2,
        Failure::Crashed => 3,
    };
    match failures.min_by_key(rank) {
        Some(failure) => Some(Because::Failure(failure)),
        None => workers.contains(&Worker::Interrupted).then_some(Because::Interruption),
    }
}

/// What counts, where a worker was taken: others may have failed for want of it.
fn blamed(because: Because, taken: bool) -> Because {
    match because {
        Because::Failure(Failure::Crashed | Failure::Hung) if taken => Because::Interruption,
        because => because,
    }
}

/// What follows once no worker runs any more.
fn ended(state: &State, because: Because, policy: &Policy, now: Duration) -> State {
    let ran_for = now.saturating_sub(state.started.unwrap_or(now));
    let row = if ran_for >= HEALTHY_AFTER { 0 } else { state.row };
    match blamed(because, state.taken) {
        Because::Asked => state.stop_clock(now).over(Phase::Interrupted, Reason::Stopped, now),
        Because::Deadline => state.over(Phase::Failed, Reason::DeadlineExceeded, now),
        Because::Failure(Failure::NotStarted) => {
            let failed = State { failures: state.failures.saturating_add(1), ..*state };
            failed.over(Phase::Failed, Reason::CannotStart, now)
        }
        Because::Failure(_) => {
            let failures = state.failures.saturating_add(1);
            let failed = State { failures, row: row.saturating_add(1), ..*state };
            match failures > policy.retries {
                true => failed.over(Phase::Failed, Reason::RetriesExhausted, now),
                false => failed.waiting(now),
            }
        }
        // Its queue may have to let it in anew.
        Because::Changed => State { row: 0, ..*state }.stop_clock(now).waiting(now),
        Because::Preempted => {
            State { phase: Phase::Waiting { until: now }, row, ..*state }.stop_clock(now)
        }
        // It waits for nobody, so that its deadline goes on.
        Because::Resized => State { phase: Phase::Waiting { until: now }, row, ..*state },
        // Each time a little longer: nodes that are not there now may be there later.
        Because::Incomplete => {
            let interruptions = state.interruptions.saturating_add(1);
            State { interruptions, row: row.saturating_add(1), ..*state }.waiting(now)
        }
        Because::Interruption => {
            let interruptions = state.interruptions.saturating_add(1);
            let is_suspect = ran_for < SOON && !state.taken;
            let row = if is_suspect { row.saturating_add(1) } else { row };
            State { interruptions, row, ..*state }.waiting(now)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy { retries: 2, deadline: None };
    const RUNNING: Worker = Worker::Running;
    const FINISHED: Worker = Worker::Finished;
    const CRASHED: Worker = Worker::Failed(Failure::Crashed);
    const HUNG: Worker = Worker::Failed(Failure::Hung);
    const NOT_STARTED: Worker = Worker::Failed(Failure::NotStarted);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A job, step by step.
    struct Job {
        state: State,
        policy: Policy,
    }

    impl Job {
        fn new(policy: Policy) -> Self {
            Self { state: State::new(at(0)), policy }
        }

        #[track_caller]
        fn step(&mut self, now: u64, workers: &[Worker], stop: bool, expected: (&str, Order)) {
            let (state, order) = decide(&self.state, &self.policy, workers, stop, at(now));
            self.state = state;
            assert_eq!((state.phase_name(), order), expected);
        }
    }

    const NOTHING: Order = Order::Nothing;
    const END: Order = Order::End { checkpoint: false };
    const SAVE: Order = Order::End { checkpoint: true };

    #[test]
    fn all_finish() {
        let mut job = Job::new(POLICY);
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(1, &[RUNNING, RUNNING], false, ("Running", NOTHING));
        job.step(2, &[FINISHED, RUNNING], false, ("Running", NOTHING));
        job.step(3, &[FINISHED, FINISHED], false, ("Succeeded", NOTHING));
        assert_eq!((job.state.reason, job.state.ended), (Reason::Finished, Some(at(3))));
        job.step(4, &[], true, ("Succeeded", NOTHING));
    }

    #[test]
    fn one_fails_and_all_start_again() {
        let mut job = Job::new(POLICY);
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(5, &[CRASHED, RUNNING], false, ("Ending", END));
        job.step(5, &[CRASHED, RUNNING], false, ("Ending", NOTHING));
        job.step(6, &[CRASHED, CRASHED], false, ("Waiting", NOTHING));
        assert_eq!((job.state.failures, job.state.reason), (1, Reason::BackOff));
        job.step(6, &[], false, ("Waiting", NOTHING));
        job.step(7, &[], false, ("Running", Order::Start));
        // One that had finished does not make the others' failure good.
        job.step(8, &[FINISHED, HUNG], false, ("Ending", END));
        job.step(8, &[FINISHED, HUNG], false, ("Waiting", NOTHING));
        job.step(9, &[], false, ("Waiting", NOTHING));
        job.step(10, &[], false, ("Running", Order::Start));
        job.step(11, &[HUNG, FINISHED], false, ("Ending", END));
        job.step(11, &[HUNG, FINISHED], false, ("Failed", NOTHING));
        assert_eq!(job.state.reason, Reason::RetriesExhausted);
        assert_eq!((job.state.attempts, job.state.failures), (3, 3));
    }

    #[test]
    fn interruptions_are_not_counted_as_failures() {
        let mut job = Job::new(Policy { retries: 0, ..POLICY });
        job.step(0, &[], false, ("Running", Order::Start));
        for turn in 1..9 {
            let now = turn * 100;
            job.step(now, &[Worker::Interrupted, RUNNING], false, ("Ending", END));
            job.step(now, &[Worker::Interrupted, CRASHED], false, ("Waiting", NOTHING));
            job.step(now + 1, &[], false, ("Running", Order::Start));
        }
        assert_eq!((job.state.failures, job.state.interruptions, job.state.attempts), (0, 8, 9));
        job.step(999, &[Worker::Interrupted, CRASHED], false, ("Ending", END));
        job.step(999, &[Worker::Interrupted, CRASHED], false, ("Failed", NOTHING));
    }

    #[test]
    fn interruptions_right_after_the_start_wait_longer_each_time() {
        let mut job = Job::new(POLICY);
        let mut now = 0;
        for pause in [1, 2, 4, 8] {
            job.step(now, &[], false, ("Running", Order::Start));
            job.step(now + 5, &[Worker::Interrupted], false, ("Ending", END));
            job.step(now + 5, &[Worker::Interrupted], false, ("Waiting", NOTHING));
            assert_eq!(job.state.look_again_at(&job.policy), Some(at(now + 5 + pause)));
            now += 5 + pause;
        }
        assert_eq!((job.state.failures, job.state.interruptions), (0, 4));
    }

    #[test]
    fn a_worker_that_was_taken_is_why_others_fail_and_no_reason_to_wait() {
        let mut job = Job::new(Policy { retries: 0, ..POLICY });
        job.state = job.state.taken();
        assert_eq!(job.state, State::new(at(0)), "nobody runs yet");
        let mut now = 0;
        for _ in 0..8 {
            job.step(now, &[], false, ("Running", Order::Start));
            // The other one misses it, and is faster than the news of a machine's end.
            job.step(now + 5, &[RUNNING, CRASHED], false, ("Ending", END));
            job.state = job.state.taken();
            job.step(now + 50, &[RUNNING, CRASHED], false, ("Ending", NOTHING));
            job.step(now + 55, &[Worker::Interrupted, CRASHED], false, ("Waiting", NOTHING));
            assert_eq!(job.state.look_again_at(&job.policy), Some(at(now + 56)));
            now += 56;
        }
        assert_eq!((job.state.failures, job.state.interruptions), (0, 8));
        // Or slower.
        job.step(now, &[], false, ("Running", Order::Start));
        job.state = job.state.taken();
        job.step(now + 5, &[Worker::Interrupted, HUNG], false, ("Ending", END));
        assert_eq!(job.state.reason, Reason::WorkerInterrupted);
        job.step(now + 5, &[Worker::Interrupted, HUNG], false, ("Waiting", NOTHING));
        // It tells nothing of the next start.
        job.step(now + 6, &[], false, ("Running", Order::Start));
        job.step(now + 7, &[RUNNING, CRASHED], false, ("Ending", END));
        job.step(now + 7, &[Worker::Interrupted, CRASHED], false, ("Failed", NOTHING));
    }

    #[test]
    fn what_only_the_program_can_have_done_counts_though_a_worker_was_taken() {
        for failure in [Failure::OutOfMemory, Failure::NotStarted] {
            let mut job = Job::new(Policy { retries: 0, ..POLICY });
            job.step(0, &[], false, ("Running", Order::Start));
            job.state = job.state.taken();
            let workers = [Worker::Interrupted, Worker::Failed(failure)];
            job.step(5, &workers, false, ("Ending", END));
            job.step(5, &workers, false, ("Failed", NOTHING));
        }
    }

    #[test]
    fn what_cannot_start_is_not_tried_again() {
        let mut job = Job::new(POLICY);
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(1, &[CRASHED, NOT_STARTED], false, ("Ending", END));
        job.step(1, &[CRASHED, NOT_STARTED], false, ("Failed", NOTHING));
        assert_eq!(job.state.reason, Reason::CannotStart);
    }

    #[test]
    fn a_person_ends_it() {
        let mut job = Job::new(POLICY);
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(5, &[RUNNING, RUNNING], true, ("Ending", SAVE));
        job.step(6, &[RUNNING, RUNNING], true, ("Ending", NOTHING));
        job.step(7, &[Worker::Interrupted, Worker::Interrupted], true, ("Interrupted", NOTHING));
        let mut waits = Job::new(POLICY);
        waits.step(0, &[], true, ("Interrupted", NOTHING));
        assert_eq!(waits.state.attempts, 0);
    }

    #[test]
    fn who_writes_a_checkpoint_is_not_hurried_by_those_that_have_ended() {
        let mut job = Job::new(POLICY);
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(5, &[RUNNING, RUNNING], true, ("Ending", SAVE));
        job.step(6, &[RUNNING, Worker::Interrupted], true, ("Ending", NOTHING));
        job.step(7, &[FINISHED, Worker::Interrupted], true, ("Interrupted", NOTHING));
        let mut last = Job::new(POLICY);
        last.step(0, &[], false, ("Running", Order::Start));
        last.step(5, &[RUNNING, RUNNING], true, ("Ending", SAVE));
        last.step(6, &[FINISHED, FINISHED], true, ("Succeeded", NOTHING));
    }

    #[test]
    fn a_person_ends_it_while_it_restarts() {
        let mut job = Job::new(POLICY);
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(5, &[CRASHED, RUNNING], false, ("Ending", END));
        job.step(5, &[CRASHED, RUNNING], true, ("Ending", NOTHING));
        job.step(6, &[CRASHED, Worker::Interrupted], true, ("Interrupted", NOTHING));
    }

    #[test]
    fn the_deadline_holds_for_all_attempts() {
        let mut job = Job::new(Policy { deadline: Some(at(100)), ..POLICY });
        job.step(50, &[], false, ("Running", Order::Start));
        assert_eq!(job.state.look_again_at(&job.policy), Some(at(150)));
        job.step(60, &[CRASHED], false, ("Ending", END));
        job.step(60, &[CRASHED], false, ("Waiting", NOTHING));
        job.step(61, &[], false, ("Running", Order::Start));
        job.step(149, &[RUNNING], false, ("Running", NOTHING));
        job.step(150, &[RUNNING], false, ("Ending", SAVE));
        job.step(151, &[Worker::Interrupted], false, ("Failed", NOTHING));
        assert_eq!(job.state.reason, Reason::DeadlineExceeded);
    }

    #[test]
    fn the_deadline_stands_still_while_it_waits_for_others() {
        let mut job = Job::new(Policy { deadline: Some(at(100)), ..POLICY });
        assert_eq!(job.state.left(&job.policy), Some(at(100)));
        job.step(50, &[], false, ("Running", Order::Start));
        job.state = job.state.preempted();
        assert!(job.state.is_leaving());
        job.step(70, &[Worker::Interrupted], false, ("Waiting", NOTHING));
        assert_eq!(
            (job.state.deadline(&job.policy), job.state.left(&job.policy)),
            (None, Some(at(80)))
        );
        // Hours later it is its turn.
        job.step(5000, &[], false, ("Running", Order::Start));
        assert_eq!(job.state.look_again_at(&job.policy), Some(at(5080)));
        // A pause after a failure counts, and a person's does not.
        job.step(5010, &[CRASHED], false, ("Ending", END));
        job.step(5010, &[CRASHED], false, ("Waiting", NOTHING));
        job.step(5020, &[], false, ("Running", Order::Start));
        job.step(5030, &[RUNNING], true, ("Ending", SAVE));
        job.step(5030, &[Worker::Interrupted], true, ("Interrupted", NOTHING));
        job.state = job.state.resumed(at(9000));
        job.step(9000, &[], false, ("Running", Order::Start));
        job.step(9049, &[RUNNING], false, ("Running", NOTHING));
        job.step(9050, &[RUNNING], false, ("Ending", SAVE));
        job.step(9051, &[Worker::Interrupted], false, ("Failed", NOTHING));
        // Another program has all of it.
        job.state = job.state.replaced(at(9100));
        assert_eq!(job.state.left(&job.policy), Some(at(100)));
    }

    #[test]
    fn what_a_person_stopped_can_go_on() {
        let mut job = Job::new(POLICY);
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(5, &[RUNNING], true, ("Ending", SAVE));
        job.step(6, &[Worker::Interrupted], true, ("Interrupted", NOTHING));
        job.state = job.state.resumed(at(60));
        assert_eq!((job.state.reason, job.state.ended), (Reason::Resumed, None));
        job.step(60, &[], false, ("Running", Order::Start));
        assert_eq!((job.state.attempts, job.state.failures, job.state.interruptions), (2, 0, 0));
        assert_eq!(job.state.resumed(at(61)), job.state);
    }

    #[test]
    fn another_program_starts_anew() {
        let mut job = Job::new(Policy { retries: 0, ..POLICY });
        job.step(0, &[], false, ("Running", Order::Start));
        job.step(5, &[CRASHED], false, ("Ending", END));
        job.step(5, &[CRASHED], false, ("Failed", NOTHING));
        job.state = job.state.replaced(at(9));
        job.step(9, &[], false, ("Running", Order::Start));
        assert_eq!((job.state.attempts, job.state.failures, job.state.began), (2, 0, Some(at(9))));
        job.state = job.state.replaced(at(10));
        job.step(10, &[RUNNING], false, ("Ending", NOTHING));
        job.step(11, &[Worker::Interrupted], false, ("Waiting", NOTHING));
        assert_eq!((job.state.failures, job.state.interruptions), (0, 0));
        job.step(12, &[], false, ("Running", Order::Start));
        job.step(13, &[FINISHED], false, ("Succeeded", NOTHING));
        assert_eq!(job.state.replaced(at(14)), job.state);
    }

    #[test]
    fn half_a_gang_is_given_up_and_tried_again_later_each_time() {
        let mut job = Job::new(POLICY);
        let mut now = 0;
        for pause in [1, 2, 4] {
            job.step(now, &[], false, ("Running", Order::Start));
            job.state = job.state.given_up();
            job.step(now, &[RUNNING, RUNNING], false, ("Ending", NOTHING));
            job.step(now, &[Worker::Interrupted; 2], false, ("Waiting", NOTHING));
            assert_eq!(job.state.look_again_at(&job.policy), Some(at(now + pause)));
            now += pause;
        }
        assert_eq!((job.state.failures, job.state.interruptions), (0, 3));
    }

    #[test]
    fn a_long_run_forgets_failures_in_a_row() {
        let mut job = Job::new(Policy { retries: 100, ..POLICY });
        let mut now = 0;
        let mut delays = Vec::new();
        for ran_for in [1, 1, 1, 1, 1, 1, 1, 1, 700] {
            job.step(now, &[], false, ("Running", Order::Start));
            now += ran_for;
            job.step(now, &[CRASHED], false, ("Ending", END));
            job.step(now, &[CRASHED], false, ("Waiting", NOTHING));
            let Phase::Waiting { until } = job.state.phase else { unreachable!() };
            delays.push((until - at(now)).as_secs());
            now = until.as_secs();
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 1]);
    }

    proptest! {
        /// Whatever happens, a job that its workers answer comes to an end once a person wants it,
        /// never starts more attempts than failures and interruptions allow, and never starts while
        /// a worker runs.
        #[test]
        fn never_half_a_gang(events in proptest::collection::vec((0usize..2, 0u8..4, 0u64..30), 0..60)) {
            let mut state = State::new(at(0));
            let mut workers: Vec<Worker> = Vec::new();
            let mut now = 0;
            let advance = |state: &mut State, workers: &mut Vec<Worker>, stop, now| {
                loop {
                    let (next, order) = decide(state, &POLICY, workers, stop, at(now));
                    match order {
                        Order::Start => {
                            assert!(!workers.contains(&RUNNING), "a worker runs still");
                            *workers = vec![RUNNING; 2];
                        }
                        Order::End { .. } => {
                            for worker in workers.iter_mut().filter(|it| **it == RUNNING) {
                                *worker = Worker::Interrupted;
                            }
                        }
                        Order::Nothing => {}
                    }
                    if next == *state {
                        return;
                    }
                    *state = next;
                }
            };
            for (index, what, pause) in events {
                now += pause;
                if let Some(worker) = workers.get_mut(index).filter(|it| **it == RUNNING) {
                    *worker = match what {
                        0 => RUNNING,
                        1 => FINISHED,
                        2 => CRASHED,
                        _ => Worker::Interrupted,
                    };
                }
                advance(&mut state, &mut workers, false, now);
                prop_assert!(state.failures <= POLICY.retries + 1);
                prop_assert!(state.attempts <= state.failures + state.interruptions + 1);
            }
            advance(&mut state, &mut workers, true, now);
            prop_assert!(state.is_over(), "{:?}", state);
        }
    }

    #[test]
    fn another_number_of_workers_counts_as_nothing() {
        let mut job = Job::new(Policy { retries: 0, deadline: Some(at(100)) });
        job.step(0, &[], false, ("Running", Order::Start));
        job.state = job.state.grown();
        assert!(!job.state.is_leaving());
        job.step(5, &[RUNNING], false, ("Ending", NOTHING));
        // What ends it in the meantime, in whatever way, is no failure.
        job.step(8, &[CRASHED], false, ("Waiting", NOTHING));
        job.step(8, &[], false, ("Running", Order::Start));
        let State { attempts, failures, interruptions, .. } = job.state;
        assert_eq!((attempts, failures, interruptions), (2, 0, 0));
        // The deadline goes on.
        assert_eq!(job.state.deadline(&job.policy), Some(at(100)));
        job.state = job.state.shrunk();
        assert_eq!((job.state.phase_name(), job.state.reason), ("Ending", Reason::Shrunk));
        // It has to leave after all.
        job.state = job.state.preempted();
        assert!(job.state.is_leaving());
        job.step(20, &[Worker::Interrupted; 2], false, ("Waiting", NOTHING));
        assert_eq!((job.state.deadline(&job.policy), job.state.reason), (None, Reason::Preempted));
        assert_eq!(job.state.grown(), job.state);
        // A person's wish, and the end of the work, come first.
        let mut last = Job::new(POLICY);
        last.step(0, &[], false, ("Running", Order::Start));
        last.state = last.state.shrunk();
        last.step(1, &[RUNNING], true, ("Ending", NOTHING));
        last.step(2, &[Worker::Interrupted], true, ("Interrupted", NOTHING));
        let mut done = Job::new(POLICY);
        done.step(0, &[], false, ("Running", Order::Start));
        done.state = done.state.shrunk();
        done.step(1, &[FINISHED, FINISHED], false, ("Succeeded", NOTHING));
    }

    #[test]
    fn making_room_is_nobodys_fault() {
        let mut job = Job::new(Policy { retries: 0, deadline: None });
        job.step(0, &[], false, ("Running", Order::Start));
        job.state = job.state.preempted();
        job.step(5, &[RUNNING], false, ("Ending", NOTHING));
        job.step(6, &[Worker::Interrupted], false, ("Waiting", NOTHING));
        let State { failures, interruptions, reason, .. } = job.state;
        assert_eq!((failures, interruptions, reason), (0, 0, Reason::Preempted));
        job.step(6, &[], false, ("Running", Order::Start));
        // Its workers may be seen to end before it is seen why.
        job.step(7, &[Worker::Interrupted, RUNNING], false, ("Ending", END));
        job.state = job.state.preempted();
        job.step(8, &[Worker::Interrupted; 2], false, ("Waiting", NOTHING));
        assert_eq!((job.state.interruptions, job.state.reason), (0, Reason::Preempted));
        job.step(8, &[], false, ("Running", Order::Start));
        // One that has finished meanwhile has finished.
        job.state = job.state.preempted();
        job.step(9, &[FINISHED], false, ("Succeeded", NOTHING));
        assert_eq!(job.state.preempted(), job.state);
        let refused = State::new(at(0)).refused(at(1));
        assert_eq!((refused.phase_name(), refused.reason), ("Failed", Reason::CannotStart));
        assert_eq!(job.state.refused(at(10)), job.state);
    }
}
