//! Compiles a resource and facts to a [`Plan`], the one form that both back ends run.
//!
//! In: a [`ModelService`](trainyard_api::ModelService) and [`Facts`] about the machine or cluster
//! and the model. Out: a [`Plan`] in which everything is decided but what only a back end can know
//! (which port is free, where a volume lies): those are typed references, [`Value`]. Equal inputs
//! give equal plans. [`kubernetes::objects`] writes a plan as Kubernetes objects. A
//! `TrainingJob` becomes a [`JobPlan`], and that what each process of its workers is told
//! ([`Gang`]). A `GpuPool` becomes
//! facts by [`pool_facts`] and objects by [`kubernetes::pool_objects`]. Knows nothing of
//! processes, API servers, files or clocks.

mod compile;
mod contract;
mod expand;
mod facts;
mod gpu;
mod job;
pub mod kubernetes;
mod policy;
mod pool;
mod revision;
mod runtime;
mod workload;

pub use compile::{Plan, PlanError, Service, compile};
pub use contract::KnobConflict;
pub use expand::expand;
pub use facts::{Facts, FetchedModel, GpuPools, Target};
pub use job::{
    Address, Checkpoint, DataSet, Demand, GANG, Gang, GangError, Handover, JobError, JobPlan,
    LaunchFile, Mpirun, Process, Progress, QueueSystem, compile_job, data_variable, with_workers,
};
pub use policy::{Abort, Access, Placement, RateLimit, Rollout, Scaling, Strategy};
pub use pool::{
    DEFAULT_POOL, Instance, PoolError, PoolFacts, PoolSeen, SHARED, ShareKind, Units, WHOLE,
    instance_memory, pool_facts,
};
pub use revision::RevisionName;
pub use workload::{
    Check, Device, DeviceRequest, Drain, EnvVar, Gpu, GpuAmount, Metrics, Mount, Port, PortNumber,
    Probe, Probes, Program, Resources, Value, Volume, VolumeSource, Workload,
};
