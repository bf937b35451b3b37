//! What is known of the cluster: one [`Entry`] for each service, fed by watches.
//!
//! It holds what decisions need and no more; ten thousand services should fit into 150 MiB. An
//! object's own content is not kept, only [`Leaves`](crate::compare::Leaves) until it was compared.

mod child;
mod deployment;
mod entry;
mod meta;
mod observed;
mod store;

pub(crate) use child::{Child, Standing};
pub(crate) use deployment::DeploymentFacts;
#[cfg(test)]
pub(crate) use deployment::Progress;
pub(crate) use entry::{Entry, Release, Resource};
pub(crate) use meta::{may_be_ours, owner_uid, resource_version, service_of, strip};
pub(crate) use observed::{Keep, Observed};
pub(crate) use store::{Source, World};
