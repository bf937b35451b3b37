//! The resources: types, defaulting, validation and CRD generation. Pure.
//!
//! In: the text of a manifest ([`manifest::read`]). Out: a [`ModelService`] or a [`GpuPool`] in which
//! every value is of its own type, or all problems of the text with their places; from a service,
//! what every field means that was left out ([`defaults::complete`]); and the definitions that
//! Kubernetes needs ([`crds`]).
//! Knows nothing of plans, processes or clusters.

mod crd;
pub mod defaults;
pub mod gpu_pool;
pub mod manifest;
pub mod model_service;
pub mod scalar;

pub use crd::crds;
pub use gpu_pool::{GpuPool, GpuPoolSpec};
pub use manifest::nearest;
pub use model_service::{ModelService, ModelServiceSpec};
