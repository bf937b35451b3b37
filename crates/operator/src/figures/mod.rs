//! What gateways count, brought to the operator: for the autoscaler and for rollouts.
//!
//! The operator reads from the gateways, so that these need no right to write anything. Each gateway
//! [`report`]s over one connection that stays: everything at first, then each second what changed,
//! and at once when requests are held. The operator [`collect`]s from all of them, and the
//! [`Tally`] makes counters of the whole cluster out of theirs, which come and go.

mod collect;
mod report;
mod serve;
mod tally;

pub(crate) use collect::{Loads, collect};
pub use serve::report;
pub(crate) use tally::Health;
