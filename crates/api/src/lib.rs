//! The resources: types, defaulting, validation and CRD generation. Pure.

pub mod defaults;
pub mod manifest;
pub mod model_service;
pub mod scalar;

pub use model_service::{ModelService, ModelServiceSpec};
