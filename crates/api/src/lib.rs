//! The resources: types, defaulting, validation and CRD generation. Pure.
//!
//! In: the text of a manifest ([`manifest::read`]). Out: a [`ModelService`] in which every value is
//! of its own type, or all problems of the text with their places; from it, what every field means
//! that was left out ([`defaults::complete`]); and the definition that Kubernetes needs ([`crd()`]).
//! Knows nothing of plans, processes or clusters.

mod crd;
pub mod defaults;
pub mod manifest;
pub mod model_service;
pub mod scalar;

pub use crd::crd;
pub use manifest::nearest;
pub use model_service::{ModelService, ModelServiceSpec};
