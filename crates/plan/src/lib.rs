//! Compiles a resource and facts to a [`Plan`], the one form that both back ends run.
//!
//! In: a [`ModelService`](trainyard_api::ModelService) and [`Facts`] about the machine or cluster
//! and the model. Out: a [`Plan`] in which everything is decided but what only a back end can know
//! (which port is free, where a volume lies): those are typed references, [`Value`]. Equal inputs
//! give equal plans. [`kubernetes::objects`] writes a plan as Kubernetes objects. Knows nothing of
//! processes, API servers, files or clocks.

mod compile;
mod expand;
mod facts;
mod gpu;
pub mod kubernetes;
mod policy;
mod revision;
mod runtime;
mod workload;

pub use compile::{Plan, PlanError, Service, compile};
pub use expand::expand;
pub use facts::{DEFAULT_POOL, Facts, FetchedModel, GpuPool, Target};
pub use policy::{Abort, Access, Placement, RateLimit, Rollout, Scaling, Strategy};
pub use revision::RevisionName;
pub use workload::{
    Check, Device, Drain, EnvVar, Gpu, GpuAmount, Metrics, Mount, Port, PortNumber, Probe, Probes,
    Program, Resources, Value, Volume, VolumeSource, Workload,
};
