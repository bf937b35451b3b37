//! Talking to the API server: how fast, with which deadline, and what its answers mean.

mod calls;
mod client;
mod discover;
mod failure;
mod patience;
mod throttle;

pub(crate) use calls::Calls;
pub use client::{ClientError, ClusterChoice, CountedClient, client, client_of};
pub(crate) use discover::{custom_apis, known_resources};
pub(crate) use failure::{CallError, Chain};
pub(crate) use throttle::RequestCounts;
