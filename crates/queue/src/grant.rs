//! What a workload was given, as it is kept until it is given back.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::amounts::Amounts;
use crate::decision::Assignment;
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
}

impl Grant {
    /// The workload that has it, and has ended by then, if that is known. What it was given holds,
    /// whatever it may ask for by now.
    pub fn held_by(
        &self,
        workload: Workload,
        ends_by: Option<Duration>,
        is_leaving: bool,
    ) -> Workload {
        let admission = Admission {
            flavour: self.assignment.flavour.clone(),
            count: self.assignment.count,
            since: self.since,
            ends_by,
            is_leaving,
        };
        Workload {
            queue: self.queue.clone(),
            per_worker: self.per_worker,
            admission: Some(admission),
            ..workload
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, assignment, .. } = self;
        let workers = if assignment.count == 1 { "worker" } else { "workers" };
        let borrows = if assignment.borrows { ", partly lent by its cohort" } else { "" };
        write!(
            f,
            "the queue `{queue}` gave it {} {workers} of the quota `{}`{borrows}",
            assignment.count, assignment.flavour
        )
    }
}
