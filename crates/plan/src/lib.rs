//! Compiles a resource and facts to a [`Plan`], the one form that both back ends run.
//!
//! In: a [`ModelService`](trainyard_api::ModelService) and [`Facts`] about the machine or cluster
//! and the model. Out: a [`Plan`] in which everything is decided but what only a back end can know
//! (which port is free, where a volume lies): those are typed references, [`Value`]. Equal inputs
//! give equal plans. Knows nothing of processes, Kubernetes objects, files or clocks.

mod compile;
mod expand;
mod facts;
mod policy;
mod revision;
mod runtime;
mod workload;

pub use compile::{Plan, PlanError, Service, compile};
pub use expand::expand;
pub use facts::{Facts, FetchedModel, Target};
pub use policy::{Abort, Access, Placement, RateLimit, Rollout, Scaling, Strategy};
pub use revision::RevisionName;
pub use workload::{
    Check, EnvVar, Gpu, GpuAmount, Mount, Port, PortNumber, Probe, Probes, Program, Resources,
    Value, Volume, VolumeSource, Workload,
};
