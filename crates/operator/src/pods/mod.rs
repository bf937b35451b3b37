//! What the operator keeps of a pod, and what is wrong with it.

mod facts;
mod look;
mod reason;
mod trouble;
mod worker;

pub(crate) use facts::PodFacts;
pub(crate) use look::LookEnd;
pub(crate) use reason::Reason;
pub(crate) use trouble::{Trouble, of_create_failure, of_event};
pub(crate) use worker::{End, WorkerFacts};
