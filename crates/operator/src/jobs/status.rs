//! From what was decided and seen to the status of a job.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use trainyard_api::training_job::TrainingJobStatus;
use trainyard_control::job::{Phase, Reason as Cause, State};
use trainyard_control::preflight;
use trainyard_plan::QueueSystem;
use trainyard_queue::{Resize, Wait};

use super::memory::{Given, Handed, Held, Memory};
use crate::key::Declared;
use crate::pods::Trouble;
use crate::status::{News, Problem, Verdict, condition, merge};

/// One job at one moment.
pub(super) struct Told<'a> {
    pub(super) generation: Option<i64>,
    pub(super) memory: &'a Memory,
    /// Failures that there may be; one more and the job is over.
    pub(super) retries: u32,
    pub(super) queue: Option<&'a str>,
    /// Where else there is no such queue; empty where nobody else was asked.
    pub(super) nowhere: &'a str,
    /// Workers whose program runs.
    pub(super) running: u32,
    /// Why what the spec asks for cannot be brought about at all.
    pub(super) problem: Option<&'a Problem>,
    /// What keeps a worker from starting.
    pub(super) trouble: Option<&'a Trouble>,
    /// What the person should know though it is no error.
    pub(super) notes: &'a [String],
    pub(super) before: Option<&'a TrainingJobStatus>,
    pub(super) now: Timestamp,
}

/// The status that the job should have.
pub(super) fn decide(told: &Told<'_>) -> TrainingJobStatus {
    let Memory { state, .. } = told.memory;
    let before: &[Condition] = told.before.map(|it| it.conditions.as_slice()).unwrap_or_default();
    let verdicts = verdicts(told);
    let reason = match (told.problem, running_trouble(told)) {
        (Some(problem), _) => problem.reason.as_str(),
        (None, Some(trouble)) => trouble.reason.as_str(),
        (None, None) => match looks(told).or_else(|| waits_in_queue(told)) {
            Some((reason, _)) => reason,
            None => reason(state),
        },
    };
    let mut conditions = merge(before, verdicts, told.generation, told.now);
    if let Some(verdict) = quota_reserved(told) {
        conditions.push(condition(before, QUOTA_RESERVED, verdict, told.generation, told.now));
    }
    TrainingJobStatus {
        observed_generation: told.generation,
        conditions,
        phase: Some(phase(state).to_owned()),
        reason: Some(reason.to_owned()),
        active_workers: if state.is_over() { 0 } else { told.running },
        attempts: state.attempts,
        failures: state.failures,
        interruptions: state.interruptions,
        step: None,
        start_time: state.began.and_then(time),
        completion_time: state.ended.filter(|_| state.phase != Phase::Interrupted).and_then(time),
        memory: Some(told.memory.to_text()),
    }
}

/// Taken out of its queue by somebody.
pub(super) const DEACTIVATED: &str = "Deactivated";

/// Kueue's name for the same.
pub(super) const QUOTA_RESERVED: &str = "QuotaReserved";

/// What a job's workers need is looked for.
const CHECKING: &str = "Checking";

/// Why a job waits for which it is looked whether what its workers need is there: in one word, and for
/// people.
fn looks<'a>(told: &Told<'_>) -> Option<(&'a str, String)> {
    let look = told.memory.look()?;
    Some(match &look.why {
        Some(why) => {
            let reason = preflight::Reason::DataUnavailable.as_str();
            (reason, format!("{why}; it is asked again before any worker is made"))
        }
        None => {
            let message =
                "a pod looks whether what its workers need is there, before they are made";
            (CHECKING, message.to_owned())
        }
    })
}

/// The event of a step of such a look; none of what mends itself, and of what was told already.
pub(super) fn looked(
    reason: preflight::Reason,
    before: &preflight::State,
    why: Option<&str>,
) -> Option<News> {
    use preflight::Reason::{Checked, DataNotThere, DataUnavailable, LookLost, NotChecked};
    let why = why.unwrap_or("nobody knows why");
    let (is_warning, note) = match reason {
        Checked => (false, "what its workers need was found, and they may be made".to_owned()),
        DataUnavailable if before.row > 0 => return None,
        DataNotThere | DataUnavailable => (true, why.to_owned()),
        LookLost => return None,
        NotChecked => (
            true,
            format!("its workers are made without a look whether what they need is there: {why}"),
        ),
    };
    Some(News { is_warning, reason: reason.as_str().to_owned(), note })
}

/// Why a job waits that its queue has not let in: in one word, and for people.
fn waits_in_queue<'a>(told: &Told<'a>) -> Option<(&'a str, String)> {
    let (queue, memory) = (told.queue?, told.memory);
    let is_waiting = matches!(memory.state.phase, Phase::Waiting { .. });
    if !is_waiting || memory.given.is_some() || memory.look().is_some() {
        return None;
    }
    if let Some(held) = &memory.held {
        return Some((held.reason.as_str(), held.message.clone()));
    }
    if let Some(handed) = &memory.handed {
        return Some(waits_elsewhere(handed, told.now));
    }
    let Some(waiting) = &memory.waiting else {
        return Some(("Queued", format!("waits in the queue `{queue}`")));
    };
    let starts_by = waiting.expected_start.and_then(time).map(|start| start.0.to_string());
    let mut why = waiting.reason.to_string();
    if matches!(waiting.reason, Wait::NoSuchQueue { .. }) && !told.nowhere.is_empty() {
        why.push_str(&format!("; nor is there another: {}", told.nowhere));
    }
    Some((waiting.reason.as_str(), waiting.sentence(queue, &why, starts_by)))
}

/// Another system looks at a Job within a second; after so long it is said that it has not.
const FIRST_WORD: i64 = 15;

fn waits_elsewhere(handed: &Handed, now: Timestamp) -> (&str, String) {
    let who = handed.system.queue(&handed.queue);
    if let Some(Held { reason, message }) = &handed.waiting {
        return (reason.as_str(), format!("{who} decides when it starts: {message}"));
    }
    let since = i64::try_from(handed.since.as_secs()).unwrap_or(i64::MAX);
    let is_silent = now.as_second().saturating_sub(since) >= FIRST_WORD;
    let message = match (is_silent, handed.system) {
        (false, _) => format!("{who} decides when it starts"),
        (true, QueueSystem::Kueue) => format!(
            "{who} decides when it starts, and has not looked at it yet: see whether Kueue runs, and whether its configuration has the integration `batch/job`"
        ),
        (true, other) => format!(
            "{who} decides when it starts, and has not looked at it yet: see whether {} runs and has that {}",
            other.name(),
            other.kind()
        ),
    };
    ("HandedOver", message)
}

/// The event of a job whose start another system decides about.
pub(super) fn handed_over(system: QueueSystem, queue: &str) -> News {
    let note = format!("{} decides when it starts", system.queue(queue));
    News { is_warning: false, reason: "HandedOver".to_owned(), note }
}

/// The event of a job that another system has let in.
pub(super) fn let_in(handed: &Handed, workers: u32) -> News {
    let note = what_it_has_elsewhere(handed, workers);
    News { is_warning: false, reason: "Admitted".to_owned(), note }
}

fn what_it_has_elsewhere(handed: &Handed, workers: u32) -> String {
    let unit = if workers == 1 { "worker" } else { "workers" };
    let quota = handed.quota.as_ref().map(|it| format!(" on the quota of `{it}`"));
    format!(
        "{} let {workers} {unit} of it start{}",
        handed.system.queue(&handed.queue),
        quota.unwrap_or_default()
    )
}

/// Whether its queue has given it what it asks for; none for a job without a queue.
fn quota_reserved(told: &Told<'_>) -> Option<Verdict> {
    told.queue?;
    // One that starts again after a pause has its quota still.
    let looks = looks(told).filter(|_| told.memory.given.is_none());
    if let Some((reason, message)) = looks.or_else(|| waits_in_queue(told)) {
        return Some(Verdict::no(reason, message));
    }
    if let Some(handed) = &told.memory.handed {
        let workers = told.memory.workers;
        return Some(Verdict::yes("Admitted", what_it_has_elsewhere(handed, workers)));
    }
    let Some(given) = &told.memory.given else {
        return Some(Verdict::no("Over", "it needs nothing any more"));
    };
    Some(Verdict::yes("Admitted", given.to_string()))
}

/// The event of a job that its queue has let in.
pub(super) fn admitted(given: &Given) -> News {
    News { is_warning: false, reason: "Admitted".to_owned(), note: given.to_string() }
}

/// The event of a job that gets another number of workers while none of them runs.
pub(super) fn resized(resize: &Resize) -> News {
    let cause = if resize.is_growth() { Cause::Grown } else { Cause::Shrunk };
    let note = format!("it goes {resize}");
    News { is_warning: false, reason: cause.as_str().to_owned(), note }
}

fn time(since_epoch: Duration) -> Option<Time> {
    let seconds = i64::try_from(since_epoch.as_secs()).ok()?;
    Some(Time(Timestamp::from_second(seconds).ok()?))
}

/// A person who ended a job by `suspend` can let it go on.
fn phase(state: &State) -> &'static str {
    match state.phase {
        Phase::Interrupted => "Suspended",
        _ => state.phase_name(),
    }
}

fn reason(state: &State) -> &'static str {
    match state.reason {
        Cause::Stopped => "Suspended",
        other => other.as_str(),
    }
}

/// Only workers that should run can fail to start, and the pod that looks before.
fn running_trouble<'a>(told: &Told<'a>) -> Option<&'a Trouble> {
    let is_looking = told.memory.look().is_some();
    told.trouble.filter(|_| is_looking || told.memory.state.phase == Phase::Running)
}

fn verdicts(told: &Told<'_>) -> [Verdict; 4] {
    let Memory { state, last, workers, .. } = told.memory;
    let reason = reason(state);
    let last = || last.clone().unwrap_or_else(|| "a worker ended".to_owned());
    let counted = format!("{} of {workers} workers run, attempt {}", told.running, state.attempts);
    let degraded = match (&told.memory.last, state.is_over()) {
        (Some(last), false) => Verdict::yes("WorkerFailed", last.clone()),
        (_, true) => Verdict::no("Over", "no worker runs"),
        (None, false) => Verdict::no("AsAsked", "no attempt has ended early"),
    };
    let fine = || Verdict::no("NotStalled", "it needs nobody");
    if let Some(problem) = told.problem.filter(|_| !state.is_over()) {
        let why = || problem.message.clone();
        let problem = problem.reason.as_str();
        return [
            Verdict::no(problem, why()),
            Verdict::no(problem, "nothing is started until it is mended"),
            degraded,
            Verdict::yes(problem, why()),
        ];
    }
    let notes = match told.notes {
        [] => String::new(),
        notes => format!("; {}", notes.join("; ")),
    };
    if let Some(trouble) = running_trouble(told) {
        let so_far = match looks(told) {
            Some(_) => "no worker is made before".to_owned(),
            None => counted,
        };
        let message = format!("{}; {so_far}{notes}", trouble.message(Declared::TrainingJob));
        let trouble_reason = trouble.reason.as_str();
        let needs_a_person = trouble.reason.needs_a_person();
        return [
            Verdict::no(trouble_reason, message.clone()),
            match needs_a_person {
                true => Verdict::no(trouble_reason, "it waits for a person"),
                false => Verdict::yes(trouble_reason, message.clone()),
            },
            degraded,
            if needs_a_person { Verdict::yes(trouble_reason, message) } else { fine() },
        ];
    }
    if let Some((reason, message)) = looks(told) {
        let progressing = Verdict::yes(reason, message.clone());
        return [Verdict::no(reason, message), progressing, degraded, fine()];
    }
    if let Some((reason, message)) = waits_in_queue(told) {
        // What was deactivated nobody but a person puts back.
        let is_ours = told.memory.handed.is_none();
        let needs_a_person = reason == DEACTIVATED
            || is_ours
                && told.memory.held.is_none()
                && told.memory.waiting.as_ref().is_some_and(|it| it.reason.needs_a_person());
        return [
            Verdict::no(reason, message.clone()),
            match needs_a_person {
                true => Verdict::no(reason, "it waits for a person"),
                false => Verdict::yes(reason, message.clone()),
            },
            degraded,
            if needs_a_person { Verdict::yes(reason, message) } else { fine() },
        ];
    }
    match state.phase {
        Phase::Waiting { .. } => {
            let message = match state.reason {
                Cause::BackOff => format!("all workers start again after a pause: {}", last()),
                _ => "its workers are about to start".to_owned(),
            };
            [Verdict::no(reason, message.clone()), Verdict::yes(reason, message), degraded, fine()]
        }
        Phase::Running => {
            let all = told.running == *workers;
            let reason = if all { "Running" } else { "Starting" };
            let message = format!("{counted}{notes}");
            [Verdict::no(reason, message.clone()), Verdict::yes(reason, message), degraded, fine()]
        }
        Phase::Ending(_) => {
            let why = match (state.reason, &told.memory.preempted, &told.memory.resize) {
                (Cause::Preempted, Some(for_whom), _) => format!("it {for_whom}; "),
                (Cause::Grown | Cause::Shrunk, _, Some(resize)) => format!("it goes {resize}; "),
                _ => String::new(),
            };
            let message = format!("{why}its workers are being ended; {counted}");
            [Verdict::no(reason, message.clone()), Verdict::yes(reason, message), degraded, fine()]
        }
        Phase::Succeeded => [
            Verdict::yes(
                reason,
                format!("all {workers} workers have finished, in attempt {}", state.attempts),
            ),
            Verdict::no(reason, "it is over"),
            degraded,
            fine(),
        ],
        Phase::Interrupted => {
            let message = "`spec.suspend` is true; set it to false to go on";
            [Verdict::no(reason, message), Verdict::no(reason, message), degraded, fine()]
        }
        Phase::Failed => {
            let message = failed(told, &last());
            [
                Verdict::no(reason, message.clone()),
                Verdict::no(reason, "it is over"),
                degraded,
                Verdict::yes(reason, message),
            ]
        }
    }
}

/// Why it is over, and how to mend it. A changed spec begins anew.
fn failed(told: &Told<'_>, last: &str) -> String {
    let state = &told.memory.state;
    match state.reason {
        Cause::RetriesExhausted => format!(
            "{} attempts failed, and `spec.retries` allows {} failures; {last}; mend the program and change `spec`, or delete the job and apply it again",
            state.failures, told.retries
        ),
        Cause::CannotStart => {
            format!(
                "{last}; correct `spec` (`command`, `image`, `data` or `checkpoint`), which begins it anew"
            )
        }
        Cause::DeadlineExceeded => {
            "it was not done within `spec.deadline`; raise it and change `spec`, or delete the job and apply it again".to_owned()
        }
        _ => last.to_owned(),
    }
}

/// The event of a step. What goes well is told too: a job's history is read from its events.
pub(super) fn step(before: &State, after: &State, last: Option<&str>) -> Option<News> {
    if before.reason == after.reason && before.attempts == after.attempts {
        return None;
    }
    let last = last.unwrap_or("a worker ended");
    let (is_warning, note) = match after.reason {
        Cause::Declared => return None,
        Cause::Started => (false, format!("starts all workers, attempt {}", after.attempts)),
        Cause::Finished => {
            (false, format!("all workers have finished, in attempt {}", after.attempts))
        }
        Cause::WorkerFailed => (true, format!("attempt {}: {last}", after.attempts)),
        Cause::WorkerInterrupted => {
            (false, format!("attempt {} was interrupted: {last}", after.attempts))
        }
        Cause::WorkersMissing => (
            true,
            format!(
                "attempt {}: some workers ran and waited for others that could not start; all are ended, and start again later",
                after.attempts
            ),
        ),
        Cause::BackOff => (false, "all workers start again after a pause".to_owned()),
        Cause::RetriesExhausted => (true, format!("{} attempts failed; {last}", after.failures)),
        Cause::CannotStart => (true, format!("another attempt would not change it: {last}")),
        Cause::DeadlineExceeded => (true, "it was not done within `spec.deadline`".to_owned()),
        Cause::Stopped => (false, "`spec.suspend` is true: the workers end".to_owned()),
        Cause::Resumed => (false, "it goes on".to_owned()),
        Cause::Preempted => (false, format!("it {last}")),
        Cause::Grown | Cause::Shrunk => (false, format!("it goes {last}")),
        Cause::SpecChanged => (false, "`spec` has changed: all workers start anew".to_owned()),
    };
    Some(News { is_warning, reason: reason(after).to_owned(), note })
}

/// The event of a trouble that is told for the first time.
pub(super) fn trouble(
    before: Option<&TrainingJobStatus>,
    after: &TrainingJobStatus,
) -> Option<News> {
    let stalled = |status: &TrainingJobStatus| {
        let found =
            status.conditions.iter().find(|it| it.type_ == "Stalled" && it.status == "True");
        found.map(|condition| (condition.reason.clone(), condition.message.clone()))
    };
    let (reason, note) = stalled(after)?;
    // The end of a job is told as a step.
    let is_step = after.phase.as_deref() == Some("Failed");
    let is_known = before.and_then(stalled).is_some_and(|(known, _)| known == reason);
    (!is_step && !is_known).then_some(News { is_warning: true, reason, note })
}

#[cfg(test)]
mod tests {
    use trainyard_control::job::{Policy, Worker, decide as step_of};

    use trainyard_queue::{Amounts, Assignment, Eviction, Wait, Waiting, Why};

    use super::*;
    use crate::jobs::memory::Preflight;
    use crate::pods::{Reason, of_create_failure};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn memory(state: State, last: Option<&str>) -> Memory {
        let mut memory = Memory::new(at(0));
        memory.state = state;
        memory.workers = 2;
        memory.last = last.map(str::to_owned);
        memory
    }

    fn shown(memory: &Memory, running: u32, problem: Option<&Problem>) -> String {
        let status = decide(&Told {
            generation: Some(3),
            memory,
            retries: 1,
            queue: None,
            nowhere: "",
            running,
            problem,
            trouble: None,
            notes: &[],
            before: None,
            now: Timestamp::UNIX_EPOCH,
        });
        let true_ones = status.conditions.iter().filter(|it| it.status == "True");
        let conditions: Vec<String> = true_ones
            .map(|it| format!("  {}: {}: {}\n", it.type_, it.reason, it.message))
            .collect();
        format!(
            "{} ({}), {} run, attempt {}\n{}",
            status.phase.unwrap_or_default(),
            status.reason.unwrap_or_default(),
            status.active_workers,
            status.attempts,
            conditions.concat()
        )
    }

    #[test]
    fn what_people_see() {
        let policy = Policy { retries: 1, deadline: None };
        let crashed =
            [Worker::Failed(trainyard_control::job::Failure::Crashed), Worker::Interrupted];
        let next = |state: &State, workers: &[Worker], stop, now| {
            step_of(state, &policy, workers, stop, at(now)).0
        };
        let end = Some("worker 0 (pod `line-1-0-x` on `n`): Crashed: rank 0 left with code 1");
        let mut all = Vec::new();
        let new = State::new(at(0));
        all.push(shown(&memory(new, None), 0, None));
        let running = next(&new, &[], false, 0);
        all.push(shown(&memory(running, None), 1, None));
        all.push(shown(&memory(running, None), 2, None));
        let ending = next(&running, &crashed, false, 5);
        all.push(shown(&memory(ending, end), 1, None));
        let waiting = next(&ending, &crashed, false, 5);
        all.push(shown(&memory(waiting, end), 0, None));
        let again = next(&waiting, &[], false, 9);
        all.push(shown(&memory(again, end), 2, None));
        let over = next(&next(&again, &crashed, false, 10), &crashed, false, 10);
        all.push(shown(&memory(over, end), 0, None));
        let finished = next(&running, &[Worker::Finished, Worker::Finished], false, 7);
        all.push(shown(&memory(finished, None), 0, None));
        let stopped =
            next(&next(&running, &[Worker::Running], true, 8), &[Worker::Interrupted], true, 9);
        all.push(shown(&memory(stopped, None), 0, None));
        let problem =
            Problem { reason: Reason::InvalidSpec, message: "`spec.image` is missing".into() };
        all.push(shown(&memory(new, None), 0, Some(&problem)));
        insta::assert_snapshot!(all.concat());
    }

    /// Phase, reason and conditions.
    fn text(status: TrainingJobStatus) -> String {
        let lines = status
            .conditions
            .iter()
            .map(|it| format!("  {} {}: {}: {}\n", it.type_, it.status, it.reason, it.message));
        let lines: Vec<String> = lines.collect();
        let word = |text: Option<String>| text.unwrap_or_default();
        format!("{} ({})\n{}", word(status.phase), word(status.reason), lines.concat())
    }

    #[test]
    fn what_people_see_of_a_queue() {
        let shown = |memory: &Memory, running| {
            let status = decide(&Told {
                generation: Some(3),
                memory,
                retries: 1,
                queue: Some("research"),
                nowhere: "Kueue has no LocalQueue `research` in `ml`",
                running,
                problem: None,
                trouble: None,
                notes: &[],
                before: None,
                now: Timestamp::UNIX_EPOCH,
            });
            text(status)
        };
        let mut all = Vec::new();
        let mut waits = memory(State::new(at(0)), None);
        all.push(shown(&waits, 0));
        let waiting = |reason, behind: Option<&str>, expected_start| Waiting {
            reason,
            behind: behind.map(str::to_owned),
            ahead: 1,
            expected_start,
        };
        let head = "ml/a".to_owned();
        let behind = Wait::BehindHead { head };
        waits.waiting = Some(waiting(behind, Some("ml/a"), Some(at(3600))));
        all.push(shown(&waits, 0));
        waits.waiting = Some(waiting(Wait::NoSuchQueue { queue: "research".into() }, None, None));
        all.push(shown(&waits, 0));
        let mut runs = memory(State::new(at(0)), None);
        let policy = Policy { retries: 1, deadline: None };
        runs.state = step_of(&runs.state, &policy, &[], false, at(1)).0;
        runs.given = Some(Given {
            queue: "research".into(),
            assignment: Assignment { flavour: "t4".into(), count: 2, borrows: true },
            per_worker: Amounts::default(),
            since: at(1),
            resized: None,
        });
        all.push(shown(&runs, 2));
        let mut shrinks = memory(runs.state.shrunk(), None);
        let eviction =
            Eviction { for_whom: "ml/b".into(), because: trainyard_queue::Because::Priority };
        let why = Why::MakesRoom(eviction);
        let resize = Resize { from: 2, to: 1, borrows: false, why };
        shrinks.given.clone_from(&runs.given);
        shrinks.resize = Some(resize.clone());
        all.push(shown(&shrinks, 2));
        let mut fewer = memory(runs.state, None);
        fewer.given.clone_from(&runs.given);
        if let Some(given) = &mut fewer.given {
            given.resize(&resize, at(2));
        }
        fewer.workers = 1;
        all.push(shown(&fewer, 1));
        runs.state = runs.state.preempted();
        runs.preempted = Some("makes room for `ml/b`: it goes first in this queue".into());
        all.push(shown(&runs, 1));
        insta::assert_snapshot!(all.concat());
    }

    #[test]
    fn what_people_see_of_a_look() {
        let shown = |memory: &Memory, trouble| {
            let status = decide(&Told {
                generation: Some(3),
                memory,
                retries: 1,
                queue: Some("research"),
                nowhere: "",
                running: 0,
                problem: None,
                trouble,
                notes: &[],
                before: None,
                now: Timestamp::UNIX_EPOCH,
            });
            text(status)
        };
        let why = "the data `words` cannot be had: NotFound: there is nothing at `s3://b/a`";
        let mut waits = memory(State::new(at(0)), None);
        let mut look = Preflight::new("r", at(0));
        let mut told = |look: &Preflight, trouble| {
            waits.preflight = Some(look.clone());
            shown(&waits, trouble)
        };
        let mut all = vec![told(&look, None)];
        let trouble = of_create_failure("pods \"x\" is forbidden: exceeded quota: compute");
        all.push(told(&look, Some(&trouble)));
        look.why = Some("the data `words` cannot be had: Unavailable: no answer".to_owned());
        all.push(told(&look, None));
        let refused = memory(State::new(at(0)).refused(at(9)), Some(why));
        all.push(shown(&refused, None));
        insta::assert_snapshot!(all.concat());
        use preflight::Reason::{Checked, DataUnavailable, LookLost, NotChecked};
        let first = preflight::State::default();
        let mut again = first;
        again.row = 1;
        let is_told = |reason, before: &preflight::State| {
            looked(reason, before, None).map(|news| news.is_warning)
        };
        assert_eq!(is_told(Checked, &first), Some(false));
        assert_eq!(is_told(DataUnavailable, &first), Some(true));
        assert_eq!(is_told(DataUnavailable, &again), None);
        assert_eq!(is_told(LookLost, &first), None);
        assert_eq!(is_told(NotChecked, &again), Some(true));
    }

    #[test]
    fn what_is_to_be_known_stands_beside_a_trouble() {
        let policy = Policy { retries: 1, deadline: None };
        let runs = memory(step_of(&State::new(at(0)), &policy, &[], false, at(0)).0, None);
        let trouble = of_create_failure("pods \"x\" is forbidden: exceeded quota: compute");
        let status = decide(&Told {
            generation: Some(1),
            memory: &runs,
            retries: 1,
            queue: None,
            nowhere: "",
            running: 1,
            problem: None,
            trouble: Some(&trouble),
            notes: &["they are placed one by one".to_owned()],
            before: None,
            now: Timestamp::UNIX_EPOCH,
        });
        let ready = status.conditions.first().expect("one");
        assert!(ready.message.contains("exceeded quota"), "{}", ready.message);
        assert!(ready.message.ends_with("; they are placed one by one"), "{}", ready.message);
    }

    /// A status that is told twice must not differ: each difference is a write.
    #[test]
    fn the_same_is_told_the_same() {
        let memory = memory(State::new(at(0)), None);
        let told = |before: Option<&TrainingJobStatus>, second| {
            decide(&Told {
                generation: Some(1),
                memory: &memory,
                retries: 1,
                queue: None,
                nowhere: "",
                running: 0,
                problem: None,
                trouble: None,
                notes: &[],
                before,
                now: Timestamp::from_second(second).expect("a time"),
            })
        };
        let first = told(None, 5);
        assert_eq!(told(Some(&first), 9), first);
    }
}
