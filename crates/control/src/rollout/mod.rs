//! Decides how a new revision takes over from the one that serves.
//!
//! In: what the plan's [`Rollout`](trainyard_plan::Rollout) asks for, how many replicas there
//! should be, the replicas that each revision has, and how well it answers ([`Observed`]). Out: for
//! each revision the replicas and the share of requests that it should have ([`Decision`]), with
//! the reason. What is remembered between decisions is a [`State`], plain data that can be stored:
//! a back end that was killed goes on where it stopped.
//!
//! What always holds:
//! - A revision without a ready replica gets no requests, and one that was given up gets none.
//! - Weights sum to 100, or are all 0 when no replica may take requests: these are then held.
//! - While a rollout lasts, ready replicas do not fall below the wanted number less
//!   `max_unavailable` by its doing, and a rolling one has at most `max_surge` above the wanted.
//! - With `canary` and `blueGreen` the old revision stays whole until the new one is trusted, so
//!   that it can take over again at once. That costs its replicas for as long as it lasts.

mod decide;
mod decision;
mod evidence;
mod observed;
mod room;
mod state;

pub use decision::{Allotment, Decision, Mirror, Phase, Reason};
pub use observed::{Evidence, Observed, Replicas, Revision};
pub use state::State;

#[cfg(test)]
mod tests;
