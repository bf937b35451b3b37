//! What the operator keeps of a pod, and what is wrong with it.

mod facts;
mod reason;
mod trouble;

pub(crate) use facts::PodFacts;
pub(crate) use reason::Reason;
pub(crate) use trouble::{Trouble, of_create_failure, of_event};
