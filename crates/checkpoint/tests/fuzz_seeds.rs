//! The fuzz targets' bodies on their seeds and on changed copies of them.

#[path = "../../../fuzz/mutate.rs"]
mod mutate;

use trainyard_checkpoint::fuzzing;

#[test]
fn manifests() {
    mutate::run("checkpoint_manifest", fuzzing::checkpoint_manifest);
}

#[test]
fn safetensors() {
    mutate::run("safetensors", fuzzing::safetensors);
}

#[test]
fn torch_zip() {
    mutate::run("torch_zip", fuzzing::torch_zip);
}

#[test]
fn tensorflow_index() {
    mutate::run("tensorflow_index", fuzzing::tensorflow_index);
}
