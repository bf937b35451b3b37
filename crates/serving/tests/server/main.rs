//! The model server from files to answers, with the built-in engine, which is always there, and with
//! ONNX Runtime where `ORT_DYLIB_PATH` names its library.

mod control;
mod layouts;
mod models;
mod onnxruntime;
mod poll;
mod requests;
mod support;
