//! The resources: types, defaulting, validation and CRD generation. Pure.
//!
//! In: the text of a manifest ([`manifest::read`]). Out: a [`ModelService`], a [`TrainingJob`],
//! a [`GpuPool`] or a [`Queue`] in which every value is of its own type, or all problems of the text with their
//! places; what every field means that was left out ([`defaults`]); and the definitions that
//! Kubernetes needs ([`crds`]).
//! Knows nothing of plans, processes or clusters.

mod crd;
pub mod defaults;
pub mod gpu_pool;
pub mod manifest;
pub mod model_service;
pub mod queue;
pub mod scalar;
pub mod training_job;

pub use crd::crds;
pub use gpu_pool::{GpuPool, GpuPoolSpec};
pub use manifest::nearest;
pub use model_service::{ModelService, ModelServiceSpec};
pub use queue::{Queue, QueueSpec};
pub use training_job::{TrainingJob, TrainingJobSpec};
