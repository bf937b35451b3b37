//! What a service's status says: a pure function of what was asked for and what was seen.

mod conditions;
mod decide;
mod news;

pub(crate) use conditions::{Verdict, are_there, condition, merge};
pub(crate) use decide::{Problem, Seen, decide, stalled_only};
pub(crate) use news::{News, news};
