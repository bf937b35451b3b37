//! What is known of the cluster: one [`Entry`] for each service and job, fed by watches.
//!
//! It holds what decisions need and no more; ten thousand services should fit into 150 MiB. An
//! object's own content is not kept, only [`Leaves`](crate::compare::Leaves) until it was compared.

mod child;
mod deployment;
mod entry;
mod job;
mod meta;
mod observed;
mod store;

pub(crate) use child::{Child, Standing};
pub(crate) use deployment::DeploymentFacts;
#[cfg(test)]
pub(crate) use deployment::Progress;
pub(crate) use entry::{Entry, Release, Resource};
pub(crate) use job::JobFacts;
pub(crate) use meta::{belongs_to, may_be_ours, owner_uid, resource_version, strip};
pub(crate) use observed::{Keep, Observed};
pub(crate) use store::{Source, World};
