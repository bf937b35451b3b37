//! When those that wait start, as things stand.
//!
//! An estimate: all of a cohort in their order, none before the one ahead, each until its run time is
//! over. Who passes by backfill starts sooner; who is declared later with a higher priority, and runs
//! shorter than declared, change it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::cohort::{Cohort, Demand};
use crate::ledger::Ledger;
use crate::reservation::Hold;

/// One that waits.
pub(crate) struct Guest {
    /// Its queue, and its place in it.
    pub(crate) queue: usize,
    pub(crate) at: usize,
    pub(crate) choices: Vec<Demand>,
    pub(crate) run_time: Option<Duration>,
}

/// The start of each guest, in their order; the first that nobody can tell ends the list.
pub(crate) fn starts(
    cohort: &Cohort<'_>,
    mut ledger: Ledger,
    mut holds: Vec<Hold>,
    guests: &[Guest],
    now: Duration,
) -> Vec<Duration> {
    let mut ends: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    for (at, hold) in holds.iter().enumerate() {
        if let Some(end) = hold.ends_by {
            ends.push(Reverse((end.max(now), at)));
        }
    }
    let (mut starts, mut time) = (Vec::new(), now);
    for guest in guests {
        let queue = guest.queue;
        let choice = loop {
            if let Some(choice) = guest.choices.iter().find(|it| ledger.fits(cohort, queue, it)) {
                break *choice;
            }
            let Some(Reverse((end, at))) = ends.pop() else { return starts };
            time = time.max(end);
            ledger.remove(cohort, holds[at].queue, &holds[at].demand);
        };
        starts.push(time);
        ledger.add(cohort, queue, &choice);
        let ends_by = guest.run_time.map(|run_time| time.saturating_add(run_time));
        if let Some(end) = ends_by {
            ends.push(Reverse((end, holds.len())));
        }
        holds.push(Hold { queue, demand: choice, ends_by, place: None });
    }
    starts
}
