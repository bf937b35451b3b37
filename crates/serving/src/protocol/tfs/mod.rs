//! TensorFlow Serving's protocols: what its REST and gRPC interfaces have in common, and REST.
//!
//! An ONNX model has one signature, `serving_default`, with the model's own inputs and outputs.
//! Classify and Regress work on any model whose inputs are features of examples and whose outputs
//! are scores: see [`classify`] and [`regress`].

pub(crate) mod classify;
pub(crate) mod data_type;
pub(crate) mod examples;
pub(crate) mod expansion;
mod floats;
pub(crate) mod methods;
pub(crate) mod model_spec;
pub(crate) mod model_status;
pub(crate) mod regress;
pub(crate) mod reload;
pub(crate) mod rest;
pub(crate) mod signature;
pub(crate) mod tensor_proto;
