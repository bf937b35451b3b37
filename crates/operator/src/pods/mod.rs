//! What the operator keeps of a pod, and what is wrong with it.

mod facts;
mod reason;
mod trouble;
mod worker;

pub(crate) use facts::PodFacts;
pub(crate) use reason::Reason;
pub(crate) use trouble::{Trouble, of_create_failure, of_event};
pub(crate) use worker::{End, WorkerFacts};
