//! What a workload was given, as it is kept until it is given back.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::amounts::Amounts;
use crate::decision::{Assignment, Resize};
use crate::workload::{Admission, Workload};

/// What a queue gave a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    pub queue: String,
    #[serde(flatten)]
    pub assignment: Assignment,
    pub per_worker: Amounts,
    pub since: Duration,
    /// From how many workers it came to what it has, and why; none if it has what it started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized: Option<Resize>,
}

impl Grant {
    /// The workload that has it, and has ended by then, if that is known. What it was given holds,
    /// whatever it may ask for by now. `resize` is a change that is under way.
    pub fn held_by(
        &self,
        workload: Workload,
        ends_by: Option<Duration>,
        is_leaving: bool,
        resize: Option<&Resize>,
    ) -> Workload {
        let admission = Admission {
            flavour: self.assignment.flavour.clone(),
            count: self.assignment.count,
            since: self.since,
            ends_by,
            is_leaving,
            shrinks_to: resize.map(|it| it.to).filter(|to| *to < self.assignment.count),
        };
        Workload {
            queue: self.queue.clone(),
            per_worker: self.per_worker,
            admission: Some(admission),
            ..workload
        }
    }

    /// It has another number of workers from now on. What it gives up has to be free by now; what it
    /// gets is its own from now on, though its workers may still have to end and start.
    pub fn resize(&mut self, resize: &Resize, now: Duration) {
        (self.assignment.count, self.assignment.borrows) = (resize.to, resize.borrows);
        (self.since, self.resized) = (now, Some(resize.clone()));
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, assignment, resized, .. } = self;
        let workers = if assignment.count == 1 { "worker" } else { "workers" };
        let borrows = if assignment.borrows { ", partly lent by its cohort" } else { "" };
        write!(
            f,
            "the queue `{queue}` gave it {} {workers} of the quota `{}`{borrows}",
            assignment.count, assignment.flavour
        )?;
        match resized {
            Some(resized) => write!(f, "; it went {resized}"),
            None => Ok(()),
        }
    }
}
