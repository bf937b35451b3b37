//! TensorFlow Serving's services: thin, as what they share with REST is in [`crate::protocol::tfs`].

mod model;
mod prediction;

pub(super) use model::ModelService;
pub(super) use prediction::PredictionService;
