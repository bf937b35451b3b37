//! How a new revision takes over where the strategy has steps: `canary` and `blueGreen`.
//!
//! The decision (how many replicas and requests each revision has) is `control`'s. A cluster has two
//! places for revisions, the [`Tracks`]: the Deployment `NAME`, and `NAME-candidate` beside it. Which
//! revision is on which track, and how a revision that has taken over moves to the stable one, is
//! [`assign`]. [`chart`] joins the two to a [`Course`]: what to write into the status, for the
//! gateways and for a later operator, and what to apply.
//!
//! A plain rolling update needs none of this: Kubernetes does it.

mod course;
mod steer;
mod tracks;

#[cfg(test)]
pub(crate) use course::Side;
pub(crate) use course::{Course, PROMOTING};
pub(crate) use steer::{Contents, sooner, steer};
