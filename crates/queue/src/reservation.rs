//! When the first of a queue starts at the latest, and what is left beside it then.
//!
//! As in EASY backfill: those that run are counted out in the order in which they end, until there is
//! room. Ends that nobody knows come after all that are known, at a moment that nobody knows; who is
//! to pass the waiting one then has to leave it room, since it cannot be shown to have ended.

use std::time::Duration;

use crate::cohort::{Cohort, Demand};
use crate::ledger::Ledger;

/// Room that is kept for a workload.
pub(crate) struct Reservation<'a> {
    pub(crate) queue: usize,
    pub(crate) head: &'a str,
    /// None if nobody knows.
    pub(crate) at: Option<Duration>,
    /// What is used then, with the head.
    pub(crate) ledger: Ledger,
    /// Who is counted in it, by place among those that hold room.
    pub(crate) held: Vec<bool>,
    /// It asks for no more than its queue's own: who borrows may not delay it either.
    pub(crate) is_within_own: bool,
    /// Those behind it in its own queue may pass only if they do not delay it.
    pub(crate) binds_own: bool,
}

/// What uses room for a while.
pub(crate) struct Hold {
    pub(crate) queue: usize,
    pub(crate) demand: Demand,
    pub(crate) ends_by: Option<Duration>,
    /// Its place among those that hold room.
    pub(crate) place: Option<usize>,
}

impl Hold {
    /// In the order of their ends; unknown ones last.
    fn order(&self) -> (bool, Option<Duration>, Option<usize>) {
        (self.ends_by.is_none(), self.ends_by, self.place)
    }
}

/// Finds when one of `choices` has room, and which, once those that hold it have ended; none if they
/// never have.
pub(crate) fn find(
    cohort: &Cohort<'_>,
    planned: &Ledger,
    (mut holds, places): (Vec<Hold>, usize),
    queue: usize,
    choices: &[Demand],
) -> Option<(Option<Duration>, Demand, Ledger, Vec<bool>)> {
    holds.sort_by_key(Hold::order);
    let mut held = vec![false; places];
    for place in holds.iter().filter_map(|hold| hold.place) {
        held[place] = true;
    }
    let mut ledger = planned.clone();
    let mut found: Option<(Option<Duration>, Demand)> = None;
    for hold in &holds {
        if let Some((at, _)) = found {
            // All that have ended by then leave room as well.
            let has_ended = matches!((hold.ends_by, at), (Some(end), Some(at)) if end <= at);
            if !has_ended {
                break;
            }
        }
        ledger.remove(cohort, hold.queue, &hold.demand);
        if let Some(place) = hold.place {
            held[place] = false;
        }
        if found.is_none()
            && let Some(choice) = choices.iter().find(|it| ledger.fits(cohort, queue, it))
        {
            found = Some((hold.ends_by, *choice));
        }
    }
    let (at, choice) = found?;
    ledger.add(cohort, queue, &choice);
    Some((at, choice, ledger, held))
}
