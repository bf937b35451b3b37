//! Checkpoints that are really durable.
//!
//! In: a folder that a training program writes checkpoints to by its framework's own means, and the
//! address of a store (a folder, NFS, `s3`, `gs`, `az`). Out: each whole checkpoint in the store,
//! uploaded beside the running program, and the newest good one back in the folder at a start.
//! A checkpoint counts as saved once every byte of it is durable and was compared.
//!
//! Knows nothing of training jobs, Kubernetes, processes and sockets: workers that restore together
//! reach each other by [`Peers`]. [`Keeper`] is what an agent uses,
//! [`Store`] what people's commands use. How a store is laid out: `docs/checkpoints.md`.

mod tree;

mod candidate;
mod recognise;

mod keys;
mod manifest;

mod chunk;
mod error;
mod guard;
mod lazily;
mod prune;
mod restore;
mod save;
mod share;
mod store;
mod verify;

mod keeper;

#[doc(hidden)]
pub mod fuzzing;

pub use error::CheckpointError;
pub use keeper::{Counters, Flushed, Keeper, Settings, Source, Start};
pub use manifest::Part;
pub use prune::{PruneOptions, Pruned};
pub use recognise::Layout;
pub use restore::{Restored, Skipped};
pub use share::{
    Asked, Brought, Hash, Held, Look, Offer, Patience, Peers, Refusal, Sharing, Terms,
};
pub use store::{Broken, Catalogue, Step, StepId, Store, Tuning};
pub use verify::Fault;
