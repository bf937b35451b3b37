//! Queues of jobs: who may start, decided over all jobs of the cluster at once.
//!
//! A watch ([`watch`]) keeps the `Queue`s; each reconcile of a job with a queue tells the registry
//! ([`known`]) what the job asks for, or has, as its status says. While this operator leads,
//! [`admit`] lets `trainyard-queue` decide whenever something changed, and wakes the jobs that it
//! decided about, whose reconciles write it down and act. What the registry holds is made anew from
//! the statuses after a restart; nothing is decided before every job was looked at once.

mod admit;
mod known;
mod watch;

pub(crate) use admit::{Acting, act};
pub(crate) use known::{Queues, Told};
pub(crate) use watch::follow;
