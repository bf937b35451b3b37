//! What should be done with the replicas of a service, and where requests go. Pure.

mod changes;
mod replica;
mod routes;

pub(crate) use changes::changes;
pub use replica::Phase;
pub(crate) use replica::{Replica, observe};
pub(crate) use routes::{Endpoints, digests, routes};
