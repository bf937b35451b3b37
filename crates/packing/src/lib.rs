//! Packs pods onto nodes with GPUs, and simulates what comes of it.
//!
//! In: nodes, pods (cores, memory, whole GPUs or a share of one, GPU models that will do) and a
//! [`Policy`]. Out: a node and its GPUs for each pod, how a cluster fills up under a workload, and
//! which pods to move so that others find room.
//! Knows nothing of Kubernetes, files, threads or clocks: text and times arrive as values, and chance
//! is a seed.

mod capacity;
mod defrag;
mod fleet;
mod fragmentation;
mod inflation;
mod models;
mod node;
mod plot;
mod policy;
mod prices;
mod request;
mod scheduler;
mod spot;
mod spread;
mod target;
mod timed;
mod trace;
mod waiting;

#[doc(hidden)]
pub mod fuzzing;

pub use capacity::{CapacityPlan, Demand, Kind, NoRoom};
pub use defrag::{
    Defrag, IdleGpus, Move, Newcomer, Outcome, Preferred, Proposal, Purpose, Site, Tenant,
    UsualShape, Welcome,
};
pub use fleet::{Asked, Fleet, Machine, NotModelled, Units};
pub use fragmentation::Fragmentation;
pub use inflation::{Inflation, Run, Sample};
pub use models::{MAX_MODELS, Models, TooManyModels};
pub use node::{Capacity, Devices, Node};
pub use plot::{Chart, Series, svg};
pub use policy::{Policy, UnknownPolicy};
pub use prices::{Instance, read_prices};
pub use request::{GpuRequest, MAX_GPUS, Model, ModelSet, Request, WHOLE_GPU};
pub use scheduler::{Placement, Scheduler};
pub use spot::{Availability, SpotJob, SpotOutcome, SpotPolicy, SpotTraceError};
pub use spread::Spread;
pub use target::{MAX_SHAPES, POPULAR, Shape, TargetWorkload};
pub use timed::{
    Discipline, Interruptions, NoTime, Timed, TimedPod, TimedRun, TimedSample, timed_pods,
};
pub use trace::{NamedNode, Pod, TraceError, read_nodes, read_pods};
