//! The life of one worker: from its agent's start to its end. One task each.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use trainyard_agent::run::{Cause, Ended, Report};
use trainyard_control::job::{Failure, Worker};

use super::{Event, Key, Slot, report_file};
use crate::replica::{
    Exit, Process, QUOTED_LINES, ROTATE_EVERY, Run, Shared, Start, cgroup_out_of_memory,
    describe_exit, last_lines, launch, marked, remove_cgroup, rotate,
};

/// How often the report is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What an agent takes beyond its program's grace: it ends what the program has left behind, and
/// tries once more to make a checkpoint durable.
const MARGIN: Duration = Duration::from_secs(30);
/// What an agent takes that is told to end at once: it gives its program 10 s.
const AT_ONCE: Duration = Duration::from_secs(40);

/// How a worker is told to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    /// With a checkpoint.
    pub(crate) save: CancellationToken,
    /// Without one.
    pub(crate) now: CancellationToken,
}

/// Runs a worker to its end; `hurry` kills it.
pub(crate) async fn run(
    key: Key,
    slot: Slot,
    start: Start,
    shared: Arc<Shared>,
    events: mpsc::Sender<(Key, Event)>,
    stops: Stops,
    hurry: CancellationToken,
) {
    let log = shared.state.logs(&slot.job).join(format!("{}.log", slot.id));
    let report = report_file(&shared.state.run(), &slot.id);
    let task = Task { key, slot, shared, events, stops, hurry, log, report, read: None };
    task.run(start).await;
}

struct Task {
    key: Key,
    slot: Slot,
    shared: Arc<Shared>,
    events: mpsc::Sender<(Key, Event)>,
    stops: Stops,
    hurry: CancellationToken,
    log: PathBuf,
    report: PathBuf,
    /// When the report that was read last was written.
    read: Option<SystemTime>,
}

impl Task {
    async fn tell(&self, event: Event) {
        // A supervisor that is gone, as after a handover, needs to know nothing more.
        let _ = self.events.send((self.key.clone(), event)).await;
    }

    async fn run(mut self, start: Start) {
        let (mut process, run, adopted, notes) = match start {
            Start::Launch => {
                let number = self.shared.runs.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                match launch(&self.slot.spec(), number, &self.shared) {
                    Ok(launched) => (launched.process, launched.run, false, launched.notes),
                    Err(error) => {
                        let outcome = Worker::Failed(Failure::NotStarted);
                        let message = error.to_string();
                        return self.tell(Event::Ended { outcome, message, report: None }).await;
                    }
                }
            }
            Start::Adopt { process, run } => (process, run, true, Vec::new()),
        };
        self.tell(Event::Started { run: run.clone(), adopted, notes }).await;
        let exit = self.watch(&mut process).await;
        self.clear(&run).await;
        let out_of_memory = run.cgroup.as_deref().is_some_and(cgroup_out_of_memory);
        if let Some(group) = &run.cgroup {
            remove_cgroup(group);
        }
        let report = Report::read(&self.report).filter(|it| it.attempt == self.slot.attempt);
        let (outcome, message) = match report.as_ref().and_then(|report| report.ended.as_ref()) {
            Some(ended) => (outcome(ended.cause), self.told(ended)),
            None => self.untold(exit, out_of_memory, &run),
        };
        self.tell(Event::Ended { outcome, message, report: report.map(Box::new) }).await;
    }

    /// Waits for the agent's end, and tells it to end when that is wanted.
    async fn watch(&mut self, process: &mut Process) -> Exit {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rotate_at = Instant::now() + ROTATE_EVERY;
        let (mut saving, mut ending) = (false, false);
        let mut deadline: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                exit = process.wait() => return exit,
                () = self.hurry.cancelled() => {
                    process.kill();
                    process.wait_killed().await;
                    return Exit::Unknown;
                }
                () = self.stops.now.cancelled(), if !ending => {
                    ending = true;
                    process.interrupt();
                    deadline = Some(Instant::now() + AT_ONCE);
                }
                () = self.stops.save.cancelled(), if !saving && !ending => {
                    saving = true;
                    process.terminate();
                    deadline = Some(Instant::now() + self.slot.grace + MARGIN);
                }
                () = at(deadline) => {
                    process.kill();
                    process.wait_killed().await;
                    return Exit::Unknown;
                }
                _ = look.tick() => {
                    self.look().await;
                    if Instant::now() >= rotate_at {
                        rotate_at = Instant::now() + ROTATE_EVERY;
                        self.keep_log_short().await;
                    }
                }
            }
        }
    }

    /// Reads the report if it is another one.
    async fn look(&mut self) {
        let written = std::fs::metadata(&self.report).and_then(|it| it.modified()).ok();
        if written.is_none() || written == self.read {
            return;
        }
        self.read = written;
        // A few hundred bytes from the page cache: cheaper than a trip to the pool of blocking
        // threads.
        if let Some(report) = Report::read(&self.report)
            && report.attempt == self.slot.attempt
        {
            self.tell(Event::Reported(Box::new(report))).await;
        }
    }

    async fn keep_log_short(&self) {
        let log = self.log.clone();
        let rotated = tokio::task::spawn_blocking(move || rotate(&log)).await;
        if let Ok(Err(error)) = rotated {
            tracing::warn!(worker = %self.slot.id, %error, "the log could not be set aside");
        }
    }

    /// Ends what an agent has left that was killed: each of its processes leads a group of its own.
    async fn clear(&self, run: &Run) {
        let (marker, number) = (self.shared.marker.clone(), run.number);
        let found = tokio::task::spawn_blocking(move || marked(&marker)).await;
        for (of, identity) in found.unwrap_or_default() {
            if of == number {
                crate::replica::kill(&identity);
            }
        }
    }

    /// The end as the agent tells it.
    fn told(&self, ended: &Ended) -> String {
        let skipped = ended.last_lines.len().saturating_sub(QUOTED_LINES);
        let is_fine = matches!(ended.cause, Cause::Finished | Cause::Interrupted);
        let lines = ended.last_lines.get(skipped..).filter(|lines| !lines.is_empty() && !is_fine);
        match lines {
            Some(lines) => {
                let lines = self.shared.hide(&self.slot.env, lines.join(" | "));
                format!("{}; its last lines: {lines}", ended.message)
            }
            None => ended.message.clone(),
        }
    }

    /// The end of an agent that told none: it was killed, or could not work.
    fn untold(&self, exit: Exit, out_of_memory: bool, run: &Run) -> (Worker, String) {
        if out_of_memory {
            let message = "the kernel ended it because memory ran out".to_owned();
            return (Worker::Failed(Failure::OutOfMemory), message);
        }
        match exit {
            Exit::Signal(_) | Exit::Unknown => {
                (Worker::Interrupted, format!("its agent is gone: {}", describe_exit(exit)))
            }
            Exit::Code(_) => {
                let lines = last_lines(&self.log, run.log_start, QUOTED_LINES).join(" | ");
                let lines = self.shared.hide(&self.slot.env, lines);
                let message = format!("its agent could not work: {lines}");
                (Worker::Failed(Failure::NotStarted), message)
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What an agent's end means for its job.
pub(crate) fn outcome(cause: Cause) -> Worker {
    match cause {
        Cause::Finished => Worker::Finished,
        Cause::Interrupted => Worker::Interrupted,
        Cause::Exited(_) | Cause::Signalled(_) => Worker::Failed(Failure::Crashed),
        Cause::OutOfMemory => Worker::Failed(Failure::OutOfMemory),
        Cause::Hung => Worker::Failed(Failure::Hung),
        Cause::NotStarted(_) => Worker::Failed(Failure::NotStarted),
    }
}
