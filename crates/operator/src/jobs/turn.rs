//! Whose turn it is: what says when the workers of a job's next start may run.

use std::time::Duration;

use trainyard_plan::kubernetes::KAI_GANG;
use trainyard_plan::{Handover, JobPlan, QueueSystem};

use super::memory::{Given, Handed, Held, Memory};
use super::status;
use super::workload::per_worker;
use crate::elsewhere::{Group, Said};
use crate::queues::Told;
use crate::status::News;
use crate::world::JobFacts;

/// What there is to hear of a job with a queue.
pub(super) enum Turn<'a> {
    /// Trainyard's own queues decide.
    Ours { name: &'a str, told: Told },
    /// Another system of the cluster does, of which this job's queue is one.
    Theirs(Theirs<'a>),
}

/// What another system was asked, and says.
pub(super) struct Theirs<'a> {
    pub(super) system: QueueSystem,
    pub(super) queue: &'a str,
    /// What it is to be asked for, in short.
    pub(super) asked: String,
    pub(super) priority_class: Option<String>,
    pub(super) min_workers: Option<u32>,
}

/// A Job that may have been handed over.
pub(super) struct Start<'a> {
    pub(super) attempt: u32,
    pub(super) uid: &'a str,
    pub(super) job: &'a JobFacts,
    /// A node was found for one of its pods.
    pub(super) is_placed: bool,
    /// What a pod that waits says.
    pub(super) trouble: Option<String>,
    pub(super) group: Option<Group>,
}

impl Start<'_> {
    /// Whether its pods may run: Kueue has started it, a scheduler has placed it, or it is over already.
    fn is_let_in(&self, system: QueueSystem) -> bool {
        let may_run = match system {
            QueueSystem::Kueue => !self.job.asked_to_suspend,
            QueueSystem::Kai | QueueSystem::Volcano => self.is_placed,
        };
        may_run || self.job.is_over()
    }

    /// Somebody wants it not to run: it stays, though it does not run, so that it can be said who.
    pub(super) fn is_held(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.is_deactivated)
    }

    /// Why it has to end, if Kueue took its room back. Its workers may have ended of that by now, which
    /// makes the Job fail; one that had failed before is not suspended any more. Where its workers have
    /// been `told_to_end` by us, so is the Job, and Kueue's own word counts.
    pub(super) fn is_taken_back(&self, system: QueueSystem, told_to_end: bool) -> Option<String> {
        if !self.job.asked_to_suspend || self.job.is_complete {
            return None;
        }
        let evicted = self.group.as_ref().and_then(|group| group.evicted.as_ref());
        let name = system.name();
        match evicted {
            Some(said) => Some(format!("has to stop, as {name} says: {}", said.message)),
            None if told_to_end => None,
            None => Some(format!("has to stop: {name} took its room back")),
        }
    }

    /// What a person should know of how it is placed.
    pub(super) fn note(&self) -> Option<String> {
        self.group.as_ref().filter(|group| group.is_no_gang).map(|_| {
            format!(
                "KAI places its workers one by one, and some may wait for others while they hold GPUs: this version does not know `{KAI_GANG}` of a Job; 0.14.1 and newer do"
            )
        })
    }

    fn why_it_waits(&self) -> Option<Held> {
        let said = self.group.as_ref().and_then(|group| match &group.waiting {
            _ if group.is_deactivated => Some(deactivated()),
            waiting => waiting.as_ref().map(held),
        });
        let by_pod = || {
            let message = self.trouble.clone()?;
            Some(Held { reason: "Unschedulable".to_owned(), message })
        };
        said.or_else(by_pod)
    }
}

fn held(said: &Said) -> Held {
    Held { reason: said.reason.to_string(), message: said.message.to_string() }
}

fn deactivated() -> Held {
    let message = "its Workload was deactivated, by a person or for the limits of its queue; set `spec.active` of the Workload to true to let it go on";
    Held { reason: status::DEACTIVATED.to_owned(), message: message.to_owned() }
}

/// Whether Trainyard's own queue lets it start: it has been given what it asks for, or is now.
pub(super) fn take_ours(
    memory: &mut Memory,
    (name, told): (&str, &Told),
    plan: &JobPlan,
    now: Duration,
    news: &mut Vec<News>,
) -> bool {
    (memory.handed, memory.held) = (None, None);
    if memory.given.is_some() {
        return true;
    }
    let Some(assignment) = &told.granted else { return false };
    let given = Given {
        queue: name.to_owned(),
        assignment: assignment.clone(),
        per_worker: per_worker(plan),
        since: now,
        resized: None,
    };
    news.push(status::admitted(&given));
    (memory.given, memory.waiting, memory.preempted) = (Some(given), None, None);
    true
}

impl Theirs<'_> {
    /// What the plan of the next start says of it.
    pub(super) fn handover(&self) -> Handover {
        Handover {
            system: self.system,
            queue: self.queue.to_owned(),
            priority_class: self.priority_class.clone(),
            min_workers: self.min_workers,
        }
    }

    /// The workers that were let in, if any were; hands the next start over where that was not done.
    pub(super) fn take(
        &self,
        memory: &mut Memory,
        (last, next): (Option<&Start<'_>>, Option<&Start<'_>>),
        now: Duration,
        news: &mut Vec<News>,
    ) -> Option<u32> {
        (memory.given, memory.waiting, memory.held) = (None, None, None);
        let attempts = memory.state.attempts;
        // Pods that a suspension ends count against the Job's backoff limit, so that one that was
        // taken out of the queue may well have failed by now.
        let stands = |last: &&Start<'_>| last.is_held() || !last.job.is_over();
        if let Some(last) = last.filter(|it| it.attempt == attempts).filter(stands) {
            // It is on its way out; or somebody wants the job not to run.
            memory.handed = None;
            memory.held = last.is_held().then(deactivated);
            return None;
        }
        let is_asked = |handed: &Handed| {
            (handed.system, handed.queue.as_str(), &handed.asked)
                == (self.system, self.queue, &self.asked)
        };
        let Some(handed) = memory.handed.as_mut().filter(|it| is_asked(it)) else {
            news.push(status::handed_over(self.system, self.queue));
            memory.handed = Some(Handed {
                system: self.system,
                queue: self.queue.to_owned(),
                asked: self.asked.clone(),
                priority_class: self.priority_class.clone(),
                min_workers: self.min_workers,
                since: now,
                made: None,
                is_let_in: false,
                quota: None,
                waiting: None,
            });
            return None;
        };
        let is_made = |next: &&Start<'_>| {
            next.attempt == attempts.saturating_add(1) && handed.made.as_deref() == Some(next.uid)
        };
        let Some(next) = next.filter(is_made) else {
            // Somebody deleted it: it is made again.
            (handed.made, handed.waiting) = (None, None);
            return None;
        };
        if !next.is_let_in(self.system) {
            handed.waiting = next.why_it_waits();
            return None;
        }
        let workers = next.job.parallelism;
        (handed.is_let_in, handed.since, handed.waiting) = (true, now, None);
        handed.quota =
            next.group.as_ref().and_then(|group| group.quota.as_deref().map(str::to_owned));
        memory.made.clone_from(&handed.made);
        news.push(status::let_in(handed, workers));
        memory.preempted = None;
        Some(workers)
    }
}

impl Handed {
    /// What the plan of a start needs to say to whom it is handed.
    pub(super) fn handover(&self) -> Handover {
        Handover {
            system: self.system,
            queue: self.queue.clone(),
            priority_class: self.priority_class.clone(),
            min_workers: self.min_workers,
        }
    }
}

#[cfg(test)]
mod tests;
