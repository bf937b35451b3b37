//! The fuzz targets of the model server, on changed copies of their seeds.

#[path = "../../../fuzz/mutate.rs"]
mod mutate;

use trainyard_serving::fuzzing;

#[test]
fn json() {
    mutate::run("json", fuzzing::json);
}

#[test]
fn binary() {
    mutate::run("binary", fuzzing::binary);
}

#[test]
fn protobuf() {
    mutate::run("protobuf", fuzzing::protobuf);
}

#[test]
fn pbtxt() {
    mutate::run("pbtxt", fuzzing::pbtxt);
}

#[test]
fn model() {
    mutate::run("model", fuzzing::model);
}

#[test]
fn load() {
    mutate::run("model", fuzzing::load);
}
